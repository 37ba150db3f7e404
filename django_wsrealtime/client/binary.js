/**
 * Binary messages: u8 version ‖ u8 kind ‖ topic, epoch, event, each after its length as a varuint ‖
 * varuint offset ‖ payload. A varuint is LEB128: 300 is `ac 02`.
 */

const VERSION = 1;
const PUBLISH = 3;
const KINDS = ["", "app", "client"];

/**
 * A member's publish of bytes; its answer is a text `ok` or `error` with `id`.
 *
 * @param {string} topic
 * @param {number} id
 * @param {string} event
 * @param {ArrayBuffer} payload
 */
export function encodePublish(topic, id, event, payload) {
  const bytes = [VERSION, PUBLISH];
  for (const text of [topic, `${id}`, event]) {
    const encoded = new TextEncoder().encode(text);
    let length = encoded.length;
    for (; length > 127; length >>= 7) bytes.push((length & 127) | 128);
    bytes.push(length, ...encoded);
  }
  bytes.push(0);
  const message = new Uint8Array(bytes.length + payload.byteLength);
  message.set(bytes);
  message.set(new Uint8Array(payload), bytes.length);
  return message;
}

/**
 * Read an event; nothing for what is malformed or of a kind we do not know.
 *
 * @param {ArrayBuffer} message
 * @returns {import("./session.js").Frame | undefined}
 */
export function decodeEvent(message) {
  const bytes = new Uint8Array(message);
  const kind = KINDS[bytes[1]];
  if (bytes[0] !== VERSION || !kind) return;
  let at = 2;
  // Offsets go beyond 32 bits, so no shifts here.
  const varuint = () => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = bytes[at++];
      value += (byte & 127) * scale;
      if (!(byte > 127)) return value;
    }
  };
  const text = () => {
    const length = varuint();
    return new TextDecoder().decode(bytes.subarray(at, (at += length)));
  };
  const [topic, epoch, event, offset] = [text(), text(), text(), varuint()];
  if (at <= bytes.length) {
    return { type: "event", topic, epoch, event, offset, kind, data: message.slice(at) };
  }
}
