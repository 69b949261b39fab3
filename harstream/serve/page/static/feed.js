// Stream of server-sent events that is opened again when it is lost.

const RETRY_MS = 2000;

export class Feed {
  // handlers: event name to a function of its content; onState: called with true when it is connected, false when lost.
  constructor(handlers, onState) {
    this.handlers = handlers;
    this.onState = onState;
    this.source = null;
    this.timer = 0;
    this.url = "";
    document.addEventListener("visibilitychange", () => {
      // Nobody looks at a hidden page, and a browser allows only a few connections to one address.
      if (document.hidden) this.disconnect();
      else if (this.url) this.connect();
    });
  }

  open(url) {
    this.url = url;
    if (!document.hidden) this.connect();
  }

  close() {
    this.url = "";
    this.disconnect();
  }

  connect() {
    this.disconnect();
    const source = (this.source = new EventSource(this.url));
    for (const [name, handle] of Object.entries(this.handlers)) {
      source.addEventListener(name, (event) => {
        if (source !== this.source) return;
        this.onState(true);
        handle(JSON.parse(event.data));
      });
    }
    source.addEventListener("error", () => {
      if (source !== this.source) return;
      this.onState(false);
      // The browser connects again by itself unless the server refused.
      if (source.readyState === EventSource.CLOSED) this.timer = setTimeout(() => this.connect(), RETRY_MS);
    });
  }

  disconnect() {
    clearTimeout(this.timer);
    if (this.source) this.source.close();
    this.source = null;
  }
}
