#pragma once
#include "Arduino.h"
struct TwoWire {
  bool begin(int sda, int scl, uint32_t frequency);
  void beginTransmission(uint8_t address);
  size_t write(uint8_t value);
  uint8_t endTransmission(bool stop = true);
  size_t requestFrom(uint8_t address, size_t n);
  int read();
};
extern TwoWire Wire;
