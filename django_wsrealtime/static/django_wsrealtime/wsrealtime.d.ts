/** The browser client of django_wsrealtime. */

export type State = "connecting" | "open" | "reconnecting" | "offline" | "closed";
export type Key = string | number;

export interface User {
  id: string;
  name: string;
}

/** The frame of an event, as `docs/reference/frames.md` describes it. */
export interface Meta {
  topic: string;
  event: string;
  /** Who made it; set by the server, never by a member. */
  kind: "row" | "html" | "metric" | "app" | "client" | "whisper";
  epoch?: string;
  offset?: number;
  /** Microseconds of the broker's clock. */
  time?: number;
  /** The member who published it. */
  from?: User;
  key?: string;
  data: any;
}

export interface Reset {
  topic: string;
  epoch: string;
  offset: number;
  reason: "epoch" | "trimmed" | "lagging" | "lost" | "bulk" | "revoked";
  /** The new state, where the topic has a snapshot. */
  snapshot?: any;
  /** Milliseconds over which to spread a refetch of your own. */
  after?: number;
}

export interface RequestOptions {
  /** Milliseconds; 60,000 by default. */
  timeout?: number;
  /** With a key a call is repeated after a lost connection. Publishes have one of their own. */
  key?: string;
}

export interface SubscribeOptions {
  /** The signed permission from a tag. */
  grant?: string;
  /** The broker time to start from, by default that of the page; `null`: now, with a snapshot. */
  since?: string | null;
  position?: { epoch: string; offset: number };
}

export interface Options {
  /** Of the WebSocket, or a URL; `/realtime/ws/` by default. */
  path?: string;
  /** Where `django_wsrealtime.urls` is included; `/realtime` by default. */
  prefix?: string;
  since?: string;
  token?: string;
}

export declare class RealtimeError extends Error {
  constructor(fault: { code: string; message?: string; retry_after?: number });
  readonly code: string;
  /** Milliseconds. */
  readonly retryAfter: number | undefined;
}

export interface Member {
  id: string;
  name?: string;
  state?: Record<string, any>;
}

export interface Presence {
  readonly members: Member[];
  readonly count: number;
  set(state: Record<string, any>): void;
  on(name: "change", handler: (change: { join: Member[]; leave: string[]; state: Member[] }) => void): () => void;
}

export interface Subscription {
  readonly topic: string;
  readonly presence: Presence;
  readonly ready: Promise<unknown>;
  on(name: "reset", handler: (reset: Reset) => void): () => void;
  on(name: "snapshot", handler: (snapshot: any, meta: any) => void): () => void;
  on(name: "error", handler: (error: RealtimeError) => void): () => void;
  on(name: string, handler: (data: any, meta: Meta) => void): () => void;
  call(action: string, data?: any, options?: RequestOptions): Promise<any>;
  publish(event: string, data?: any, options?: RequestOptions): Promise<any>;
  publishBytes(
    event: string,
    data: ArrayBuffer | Blob | ArrayBufferView<ArrayBuffer>,
    options?: RequestOptions,
  ): Promise<any>;
  whisper(event: string, data?: any): void;
  unsubscribe(): void;
}

export interface Change<Row> {
  added: { pk: Key; row: Row }[];
  changed: { pk: Key; row: Row }[];
  removed: { pk: Key; row: Row }[];
}

export interface Collection<Row = Record<string, any>> extends ReadonlyMap<Key, Row> {
  readonly topic: string;
  readonly ready: Promise<unknown>;
  on(name: "change", handler: (change: Change<Row>) => void): () => void;
  close(): void;
}

export interface RealtimeEvents {
  open: [];
  connecting: [];
  reconnecting: [];
  offline: [];
  closed: [];
  close: [{ code: number; reason: string; reconnect: boolean }];
  state: [State];
  latency: [number];
  error: [RealtimeError];
  event: [Meta];
  reset: [Reset];
}

export declare class Realtime {
  constructor(options?: Options);
  readonly state: State;
  /** 0 connecting, 1 open, 3 closed. */
  readonly readyState: number;
  readonly bufferedAmount: number;
  /** Milliseconds of the last round trip. */
  readonly latency: number | undefined;
  readonly transport: string;
  /** Names this page, for the header `X-Realtime-Tab`. */
  readonly tab: string;
  readonly user: User | null | undefined;
  on<Name extends keyof RealtimeEvents>(
    name: Name,
    handler: (...details: RealtimeEvents[Name]) => void,
  ): () => void;
  subscribe(topic: string, options?: SubscribeOptions): Subscription;
  collection<Row = Record<string, any>>(topic: string, options?: { grant?: string }): Collection<Row>;
  open(): void;
  close(): void;
}

/** The page's own instance, the same as `window.realtime`. */
export declare const realtime: Realtime;

declare global {
  interface Window {
    realtime: Realtime;
  }
}
