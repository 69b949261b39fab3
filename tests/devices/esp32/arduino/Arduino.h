// Stand-in for the parts of Espressif's Arduino core and of PubSubClient that the sketch uses. Time is not real: it goes
// on when the sketch sleeps. The sensor plays counts from standard input; what is published goes to standard output.
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>
#include <sys/time.h>

extern int64_t elapsed_ms;
inline void delay(uint32_t ms) { elapsed_ms += ms; }
inline uint32_t millis() { return static_cast<uint32_t>(elapsed_ms); }
int boardTime(timeval *now, void *);
#define gettimeofday boardTime
inline void configTime(long, int, const char *) {}

struct SerialPort {
  void begin(unsigned long) {}
  void println(const char *text) { fprintf(stderr, "%s\n", text); }
  template <typename... T> void printf(const char *format, T... values) { fprintf(stderr, format, values...); }
};
extern SerialPort Serial;
