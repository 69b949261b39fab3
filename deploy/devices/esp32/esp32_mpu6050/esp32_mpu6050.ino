// Publish an MPU-6050 on an ESP32 to harstream, half a second a message.
// Boards: the core "esp32" of Espressif. Libraries: PubSubClient. docs/devices/esp32.md says how to load it.
//
// The sensor's own buffer (FIFO) keeps the samples at an even rate while this program is busy with the network. A
// message is harstream's packed format, with the sensor's whole numbers and the factors that make g and rad/s of them.

#include <PubSubClient.h>
#include <WiFi.h>
#include <Wire.h>
#include <sys/time.h>

const char *WIFI_NAME = "name of the network", *WIFI_PASSWORD = "its password";
const char *BROKER = "192.168.1.20";
const uint16_t BROKER_PORT = 1883;
const char *BROKER_USER = nullptr, *BROKER_PASSWORD = nullptr;  // nullptr: the broker asks for none
const char *DEVICE_NAME = "esp32-1";                            // one name for each board
const char *SAMPLES_TOPIC = "wearables/esp32-1/imu";            // with the same name
const int SDA_PIN = 21, SCL_PIN = 22;

const int RATE_HZ = 50;
const int SAMPLES = 25;         // in a message: half a second
const int KEPT_MESSAGES = 120;  // while the broker cannot be reached: a minute, 40 kB
const int64_t PERIOD_NS = 1000000000LL / RATE_HZ;
const uint32_t RETRY_MS = 5000;
const uint8_t ADDRESS = 0x68;
const int SAMPLE_BYTES = 12, FIFO_BYTES = 1024;
const int READ_SAMPLES = 5;  // at once: Wire has a buffer of 128 bytes or more

struct __attribute__((packed)) Message {
  char magic[2] = {'H', 'S'};
  uint8_t version = 1, flags = 3;  // gyroscope, int16 values
  int64_t t_ns;                    // of the first sample, since 1970
  float rate_hz = RATE_HZ;
  uint16_t n = SAMPLES, reserved = 0;
  float acc_scale = 1.0f / 4096;                    // g, at a range of 8 g
  float gyro_scale = 3.14159265f / 180.0f / 32.8f;  // rad/s, at a range of 1000 deg/s
  int16_t values[6 * SAMPLES];
};

Message kept[KEPT_MESSAGES];
int oldest = 0, number = 0;  // of the kept messages
int64_t next_ns = 0;         // expected time of the next sample; 0: unknown
bool failed = false;
uint32_t failed_ms = 0;
WiFiClient client;
PubSubClient mqtt(client);

bool writeRegister(uint8_t name, uint8_t value) {
  Wire.beginTransmission(ADDRESS);
  Wire.write(name);
  Wire.write(value);
  return Wire.endTransmission() == 0;
}

bool readRegisters(uint8_t name, uint8_t *bytes, uint8_t n) {
  Wire.beginTransmission(ADDRESS);
  Wire.write(name);
  if (Wire.endTransmission(false) != 0 || Wire.requestFrom(ADDRESS, n) != n) return false;
  for (int i = 0; i < n; i++) bytes[i] = Wire.read();
  return true;
}

void emptyFifo() {
  writeRegister(0x6A, 0x04);  // USER_CTRL: reset of the buffer, which must be off
  writeRegister(0x6A, 0x40);
  next_ns = 0;
}

void startSensor() {
  while (!writeRegister(0x6B, 0x80)) {  // PWR_MGMT_1: reset
    Serial.println("no sensor");
    delay(1000);
  }
  delay(100);
  writeRegister(0x6B, 0x01);                // awake, clock of the gyroscope
  writeRegister(0x1A, 0x04);                // CONFIG: low-pass filter of 21 Hz, below half the rate
  writeRegister(0x19, 1000 / RATE_HZ - 1);  // SMPLRT_DIV, of 1 kHz
  writeRegister(0x1B, 0x10);                // GYRO_CONFIG: 1000 deg/s
  writeRegister(0x1C, 0x10);                // ACCEL_CONFIG: 8 g, as the steps of a runner exceed 4 g
  writeRegister(0x23, 0x78);                // FIFO_EN: both sensors
  emptyFifo();
}

int64_t unixNs() {
  timeval now;
  gettimeofday(&now, nullptr);
  return now.tv_sec * 1000000000LL + now.tv_usec * 1000LL;
}

// Time of the oldest of `waiting` samples. The sensor counts them evenly, and the board's clock, which knows when one
// arrived only to a period, corrects the count by an eighth.
int64_t timeOfFirst(int waiting) {
  int64_t measured = unixNs() - waiting * PERIOD_NS + PERIOD_NS / 2;
  int64_t error = measured - next_ns;
  if (next_ns == 0 || error > 5 * PERIOD_NS || error < -5 * PERIOD_NS) {
    next_ns = measured;
    error = 0;
  }
  int64_t first = next_ns + error / 8;
  next_ns = first + SAMPLES * PERIOD_NS;
  return first;
}

// Take a message out of the sensor if one is complete. Of too many, the oldest is dropped.
void readSensor() {
  uint8_t bytes[READ_SAMPLES * SAMPLE_BYTES];
  if (!readRegisters(0x72, bytes, 2)) return;
  int count = bytes[0] << 8 | bytes[1];
  if (count > FIFO_BYTES - SAMPLE_BYTES) return emptyFifo();  // overflowed: its content is useless
  int waiting = count / SAMPLE_BYTES;
  if (waiting < SAMPLES) return;
  if (number == KEPT_MESSAGES) {
    oldest = (oldest + 1) % KEPT_MESSAGES;
    number--;
  }
  Message &message = kept[(oldest + number) % KEPT_MESSAGES];
  message.t_ns = timeOfFirst(waiting);
  for (int first = 0; first < SAMPLES; first += READ_SAMPLES) {
    if (!readRegisters(0x74, bytes, sizeof bytes)) return emptyFifo();
    for (int i = 0; i < 6 * READ_SAMPLES; i++) message.values[6 * first + i] = bytes[2 * i] << 8 | bytes[2 * i + 1];
  }
  number++;
}

void sendOldest() {
  if (number == 0 || WiFi.status() != WL_CONNECTED) return;
  if (!mqtt.connected()) {
    if (failed && millis() - failed_ms < RETRY_MS) return;
    // One second for the connection and one for the answer, as the sensor's buffer lasts for 1.7.
    failed = !client.connect(BROKER, BROKER_PORT, 1000) || !mqtt.connect(DEVICE_NAME, BROKER_USER, BROKER_PASSWORD);
    failed_ms = millis();
    if (failed) {
      Serial.printf("no broker: state %d\n", mqtt.state());
      return;
    }
  }
  if (!mqtt.publish(SAMPLES_TOPIC, (const uint8_t *)&kept[oldest], sizeof(Message))) return;
  oldest = (oldest + 1) % KEPT_MESSAGES;
  number--;
}

void setup() {
  Serial.begin(115200);
  WiFi.begin(WIFI_NAME, WIFI_PASSWORD);
  while (WiFi.status() != WL_CONNECTED) delay(200);
  configTime(0, 0, "pool.ntp.org");
  for (int i = 0; i < 50 && time(nullptr) < 1600000000; i++) delay(200);  // without NTP, labels have dates of 1970
  Wire.begin(SDA_PIN, SCL_PIN, 400000);
  mqtt.setServer(BROKER, BROKER_PORT);
  mqtt.setSocketTimeout(1);                   // seconds
  mqtt.setBufferSize(sizeof(Message) + 128);  // PubSubClient drops larger messages; its own limit is 256 bytes
  startSensor();
}

void loop() {
  readSensor();
  sendOldest();
  mqtt.loop();
  delay(10);
}
