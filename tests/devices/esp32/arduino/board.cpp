// Board of the stand-ins. Arguments: start in ns since 1970, sample rate of the sensor in Hz.
#include "PubSubClient.h"
#include "WiFi.h"
#include "Wire.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <iterator>
#include <map>
#include <vector>

void setup();
void loop();

int64_t elapsed_ms = 0;
SerialPort Serial;
WiFiClass WiFi;
TwoWire Wire;

namespace {
// As run_board.py: the broker cannot be reached; the program is kept from running, for less and for more than the
// sensor's buffer lasts.
const int64_t OUTAGE_MS[] = {8000, 25000}, BUSY_MS[][2] = {{30000, 31000}, {40000, 43000}};
const size_t HEADER = 5, SAMPLE = 12;
int64_t start_ns;
double rate_hz;
std::vector<uint8_t> counts, command, reply;
std::map<int, int> registers = {{0x6B, 0x40}};
size_t taken = 0, replied = 0;

size_t made() { return std::min<size_t>(elapsed_ms * rate_hz / 1000, counts.size() / SAMPLE); }
}  // namespace

int boardTime(timeval *now, void *) {
  int64_t us = start_ns / 1000 + elapsed_ms * 1000;
  *now = {us / 1000000, us % 1000000};
  return 0;
}

bool brokerIsThere() { return elapsed_ms < OUTAGE_MS[0] || elapsed_ms >= OUTAGE_MS[1]; }

bool TwoWire::begin(int, int, uint32_t) { return true; }
void TwoWire::beginTransmission(uint8_t address) {
  assert(address == 0x68);
  command.clear();
}
size_t TwoWire::write(uint8_t value) {
  command.push_back(value);
  return 1;
}
uint8_t TwoWire::endTransmission(bool) {
  if (command.size() == 2) {
    registers[command[0]] = command[1];
    if (command[0] == 0x6A && (command[1] & 4)) taken = made();
  }
  return 0;
}
size_t TwoWire::requestFrom(uint8_t address, size_t n) {
  const std::map<int, int> expected = {{0x6B, 1},    {0x1A, 4},    {0x19, 19},  {0x1B, 0x10},
                                       {0x1C, 0x10}, {0x23, 0x78}, {0x6A, 0x40}};
  assert(address == 0x68 && command.size() == 1 && registers == expected && n <= 128);
  size_t waiting = (made() - taken) * SAMPLE;
  reply.clear();
  replied = 0;
  if (command[0] == 0x72) {
    size_t count = std::min<size_t>(waiting, 1024);
    reply = {static_cast<uint8_t>(count >> 8), static_cast<uint8_t>(count)};
  } else {
    assert(command[0] == 0x74 && n <= waiting && waiting <= 1024);
    reply.assign(counts.begin() + taken * SAMPLE, counts.begin() + taken * SAMPLE + n);
    taken += n / SAMPLE;
  }
  return reply.size();
}
int TwoWire::read() { return replied < reply.size() ? reply[replied++] : -1; }

bool PubSubClient::setBufferSize(uint16_t size) {
  buffer = size;
  return true;
}
bool PubSubClient::connect(const char *, const char *, const char *) { return open = brokerIsThere(); }
bool PubSubClient::connected() { return open = open && brokerIsThere(); }
bool PubSubClient::publish(const char *topic, const uint8_t *payload, unsigned int n) {
  if (!connected() || HEADER + 2 + strlen(topic) + n > buffer) return false;
  assert(!strcmp(topic, "wearables/esp32-1/imu"));
  const uint8_t length[] = {static_cast<uint8_t>(n), static_cast<uint8_t>(n >> 8)};
  fwrite(length, 1, 2, stdout);
  fwrite(payload, 1, n, stdout);
  return true;
}

int main(int, char **arguments) {
  start_ns = atoll(arguments[1]);
  rate_hz = atof(arguments[2]);
  for (int c; (c = getchar()) != EOF;) counts.push_back(static_cast<uint8_t>(c));
  setup();
  while (made() < counts.size() / SAMPLE) {
    int64_t before = elapsed_ms;
    loop();
    for (auto &busy : BUSY_MS)
      if (before < busy[0] && busy[0] <= elapsed_ms) elapsed_ms = busy[1];
  }
}
