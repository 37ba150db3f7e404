/** The browser's WebSocket, but one that comes back. */

export type Data = string | ArrayBuffer | Blob | ArrayBufferView<ArrayBuffer>;

export interface Options {
  /**
   * What to send after `interval` (25,000) milliseconds of silence. If nothing at all comes within
   * five seconds after that, the link is dead. Messages that equal `answer` are not shown.
   */
  heartbeat?: { message: Data; answer?: string; interval?: number };
  /** By default: unless closed with 1000, a code that means a fault or a refusal, or 4400 to 4599. */
  shouldReconnect?: (event: CloseEvent) => boolean;
  /** Messages that may wait for the next link, 256 by default; 64 KiB at most. */
  queue?: number;
}

export declare class ReconnectingWebSocket extends EventTarget {
  static readonly CONNECTING: 0;
  static readonly OPEN: 1;
  static readonly CLOSING: 2;
  static readonly CLOSED: 3;
  readonly CONNECTING: 0;
  readonly OPEN: 1;
  readonly CLOSING: 2;
  readonly CLOSED: 3;

  constructor(url: string | URL, protocols?: string | string[], options?: Options);

  readonly url: string;
  /** CONNECTING while it waits for the next try, too; CLOSED when there will be none. */
  readonly readyState: number;
  readonly bufferedAmount: number;
  readonly protocol: string;
  readonly extensions: string;
  binaryType: BinaryType;

  onopen: ((event: Event) => any) | null;
  onmessage: ((event: MessageEvent) => any) | null;
  onerror: ((event: Event) => any) | null;
  onclose: ((event: CloseEvent) => any) | null;

  /** Throws InvalidStateError if there is no link and no room to wait for one. */
  send(data: Data): void;
  close(code?: number, reason?: string): void;
}

export default ReconnectingWebSocket;
