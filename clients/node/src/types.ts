// What goes to the daemon and comes from it, by its own description (schema.ts, `make contract`).

import type { components } from "./schema.js";

type Schemas = components["schemas"];

/** An event as offered. Edits, the default kind, and reads need filePath and selectionRange. */
export type Draft = Schemas["Draft"];

/** What kind of event it is. */
export type Kind = Schemas["Kind"];

/** An event as recorded. `clock` is in decimal digits: a number does not hold it exactly. */
export type Event = Omit<Schemas["Event"], "clock"> & { readonly clock: string };

/** An event that answers a question, and how well: 0 to 1; 0 where nothing was asked. */
export type FoundEvent = Omit<Schemas["FoundEvent"], "clock"> & { readonly clock: string };

/** What there is. */
export type Status = Schemas["Status"] & { readonly [name: string]: unknown };

/** What narrows a call; of several projects, kinds or tools any. Times are in ms since 1970. */
export type Filters = Pick<
  Schemas["Recent"],
  "project" | "file" | "kind" | "tool" | "device" | "session" | "since" | "before"
>;

/** How a single call is made. */
export interface CallOptions {
  /** Gives the call up: it rejects with the signal's reason. What was sent may or may not be done. */
  readonly signal?: AbortSignal | undefined;
  /** How long an answer may take, instead of the client's own time. */
  readonly timeoutMs?: number | undefined;
}

/** How a client is made. */
export interface MemoryOptions {
  /** Replaces process.env, for the daemon as well. */
  readonly environment?: Readonly<Record<string, string | undefined>> | undefined;
  /** What runs `localmem`, with its first arguments; by default the one on PATH. */
  readonly command?: readonly string[] | undefined;
  /** Whether a daemon is started if there is none: yes, by default. */
  readonly start?: boolean | undefined;
  /** How long an answer may take; a minute, by default. */
  readonly timeoutMs?: number | undefined;
  /** By default the Unix socket, and loopback where there is none (Windows). */
  readonly transport?: "socket" | "loopback" | undefined;
}
