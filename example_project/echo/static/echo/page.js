/** Sends text and bytes through the drop-in WebSocket and compares what comes back. */

const KEPT = 12; // lines of the log
const FLOOD = { messages: 64, bytes: 65536 };

const page = document.querySelector("[data-echo-path]");
const log = document.querySelector("[data-log]");
const { ReconnectingWebSocket } = await import(page.dataset.client);

/** What was sent and is not back yet, in order: one socket keeps the order of its messages. */
let waiting = [];
let socket;
const counts = { opened: 0, sent: 0, back: 0 };
let peak = 0;

function show() {
  for (const item of page.querySelectorAll("[data-state]")) {
    item.toggleAttribute("data-current", Number(item.dataset.state) === socket.readyState);
  }
  peak = Math.max(peak, socket.bufferedAmount);
  const numbers = {
    buffered: size(socket.bufferedAmount),
    peak: size(peak),
    opened: `${counts.opened} ${counts.opened === 1 ? "time" : "times"}`,
    sent: String(counts.sent),
    back: String(counts.back),
  };
  for (const [name, text] of Object.entries(numbers)) {
    page.querySelector(`[data-number="${name}"]`).textContent = text;
  }
  page.querySelector("[data-meter]").value = socket.bufferedAmount;
  const ended = socket.readyState >= WebSocket.CLOSING;
  page.querySelector('[data-do="open"]').hidden = !ended;
  page.querySelector('[data-do="close"]').hidden = ended;
}

const size = (bytes) =>
  bytes < 1024 ? `${bytes} B` : bytes < 1048576 ? `${+(bytes / 1024).toFixed(1)} KiB` : `${+(bytes / 1048576).toFixed(1)} MiB`;

function write({ kind, what, bytes, time, same }) {
  const line = document.createElement("tr");
  line.dataset.kind = kind;
  line.dataset.same = String(same);
  const cells = [[kind], [what, "what"], [size(bytes), "amount"], [time, "amount"], [same ? "yes" : "no"]];
  for (const [text, name] of cells) {
    const cell = document.createElement("td");
    cell.textContent = text;
    if (name) cell.className = name;
    line.append(cell);
  }
  log.prepend(line);
  document.querySelector("[data-nothing]").hidden = true;
  while (log.rows.length > KEPT) log.lastElementChild.remove();
}

function equal(one, other) {
  if (typeof one === "string" || typeof other === "string") return one === other;
  const [left, right] = [new Uint8Array(one), new Uint8Array(other)];
  return left.length === right.length && left.every((byte, place) => byte === right[place]);
}

function send(data) {
  waiting.push({ data, at: performance.now() });
  counts.sent += 1;
  socket.send(data);
  show();
}

function came({ data }) {
  const { data: sent, at } = waiting.shift();
  counts.back += 1;
  const text = typeof data === "string";
  write({
    kind: text ? "text" : "bytes",
    what: text ? data : hex(data),
    bytes: text ? new TextEncoder().encode(data).length : data.byteLength,
    time: `${(performance.now() - at).toFixed(1)} ms`,
    same: equal(sent, data),
  });
  show();
}

const hex = (buffer) =>
  [...new Uint8Array(buffer).subarray(0, 8)].map((byte) => byte.toString(16).padStart(2, "0")).join(" ") + " …";

function randomBytes(count) {
  const bytes = new Uint8Array(count);
  for (let from = 0; from < count; from += 65536) {
    crypto.getRandomValues(bytes.subarray(from, from + 65536)); // its limit for one call
  }
  return bytes.buffer;
}

function open() {
  // An echo answers everything, so anything will do as a heartbeat; it is not shown.
  const heartbeat = { message: "/beat", answer: "/beat", interval: 20_000 };
  socket = new ReconnectingWebSocket(page.dataset.echoPath, [], { heartbeat });
  socket.binaryType = "arraybuffer";
  socket.addEventListener("open", () => {
    counts.opened += 1;
    show();
  });
  socket.addEventListener("message", came);
  socket.addEventListener("close", () => {
    waiting = []; // what the closed socket had not brought back never comes
    show();
  });
  show();
}

const submits = {
  text: (form) => send(form.elements.text.value),
  bytes: (form) => send(randomBytes(Number(form.elements.size.value))),
  flood: () => {
    for (let n = 0; n < FLOOD.messages; n += 1) send(randomBytes(FLOOD.bytes));
  },
};
const clicks = {
  "hang-up": () => socket.send(page.dataset.hangUp),
  close: () => socket.close(1000),
  open,
};

page.addEventListener("submit", (event) => {
  event.preventDefault();
  if (socket.readyState === WebSocket.OPEN) submits[event.target.dataset.form](event.target);
});
page.addEventListener("click", (event) => {
  const button = event.target.closest("[data-do]");
  if (button) clicks[button.dataset.do]();
});

open();
setInterval(show, 100); // bufferedAmount has no event
