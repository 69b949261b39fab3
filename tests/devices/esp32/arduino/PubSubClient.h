#pragma once
#include "Arduino.h"
#include "WiFi.h"
class PubSubClient {
 public:
  explicit PubSubClient(WiFiClient &) {}
  PubSubClient &setServer(const char *, uint16_t) { return *this; }
  PubSubClient &setSocketTimeout(uint16_t) { return *this; }
  bool setBufferSize(uint16_t size);
  bool connect(const char *id, const char *user, const char *password);
  bool connected();
  int state() { return -2; }
  bool publish(const char *topic, const uint8_t *payload, unsigned int n);
  bool loop() { return connected(); }

 private:
  unsigned int buffer = 256;
  bool open = false;
};
