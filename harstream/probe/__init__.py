"""Probe: what messages of unknown devices hold, and the settings with which `harstream run` labels them.

``findings.examine`` takes messages with their times of arrival and returns what was found. Nothing here listens,
reads a clock or prints. The steps, each a module:

    contents   the form of a payload, and the document in it
    places     where numbers and texts are in documents of one shape, with all their values
    words      what a name says: accelerometer, gyroscope, another sensor, a time
    sensors    the three places of an accelerometer, and of a gyroscope, by names and by values
    clocks     the place and the unit of the time, and of the rate
    naming     the level of the topic, or the place in the payload, that names the device
    groups     messages of one shape and one kind of topic, and what is no sample at all
    candidates settings that may fit the messages of a group
    trial      settings tried: the messages decoded by them and fed to an ``Engine``
    pairs      the gyroscope that has messages of its own
    findings   all steps in order
    report     findings as text
"""
