/**
 * Binary messages: u8 version ‖ u8 kind ‖ topic, epoch, event, each after its length as a varuint ‖
 * varuint offset ‖ payload. A varuint is LEB128: 300 is `ac 02`.
 */

const VERSION = 1;
const PUBLISH = 3;
const KINDS = ["", "app", "client"];

/** @param {string | number} text of less than 16 KiB */
const prefixed = (text) => {
  const bytes = new TextEncoder().encode(`${text}`);
  const { length } = bytes;
  return [...(length > 127 ? [(length & 127) | 128, length >> 7] : [length]), ...bytes];
};

/**
 * A member's publish of bytes; its answer is a text `ok` or `error` with `id`.
 *
 * @param {string} topic
 * @param {number} id
 * @param {string} event
 * @param {BlobPart} payload
 */
export const encodePublish = (topic, id, event, payload) => {
  const head = [VERSION, PUBLISH, ...prefixed(topic), ...prefixed(id), ...prefixed(event), 0];
  return new Blob([new Uint8Array(head), payload]);
};

/**
 * Read an event; nothing for what is malformed or of a kind we do not know.
 *
 * @param {ArrayBuffer} message
 * @returns {import("./topic.js").Frame | undefined}
 */
export const decodeEvent = (message) => {
  const bytes = new Uint8Array(message);
  const kind = KINDS[bytes[1]];
  let at = 2;
  // Offsets go beyond 32 bits, so no shifts here. Beyond the end bytes are undefined, which stops it.
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
  const topic = text();
  const epoch = text();
  const event = text();
  const offset = varuint();
  if (bytes[0] === VERSION && kind && at <= bytes.length) {
    return { type: "event", topic, epoch, event, offset, kind, data: message.slice(at) };
  }
};
