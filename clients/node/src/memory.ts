// `Memory`: the calls, with the names and errors of the clients in Python and Go.

import { Connection } from "./connection.js";
import type { Request } from "./connection.js";
import { DaemonError, errorOf, eventError, EventError } from "./errors.js";
import { eventText, fieldsText, parsed } from "./json.js";
import { Watching } from "./watching.js";
import type {
  CallOptions,
  Draft,
  Event,
  Filters,
  FoundEvent,
  MemoryOptions,
  Status,
} from "./types.js";

/** How `queryRecent` is asked. */
export interface QueryOptions extends Filters, CallOptions {
  /** With it each event has its evidence. */
  readonly explain?: boolean | undefined;
}

/** How `timeline` is asked. */
export interface TimelineOptions extends Filters, CallOptions {
  /** The event to look around; without it, the newest. */
  readonly id?: string | null | undefined;
  /** How many events in all: 10, at most 1000. */
  readonly k?: number | undefined;
}

/** How `watch` is asked. */
export interface WatchOptions extends Filters {
  /** The last event that was seen: what came after it is told first. */
  readonly after?: string | null | undefined;
  /** Ends the watch: whoever waits is rejected with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Remembers editor events, at this user's daemon, which is started if there is none.
 *
 * Every call rejects with DaemonError when there is no daemon or no answer, with the reason of its
 * signal when it is aborted, and otherwise with what the daemon reports.
 */
export class Memory {
  readonly #connection: Connection;

  /** Connects to nothing yet. Throws ConfigError. */
  constructor(options: MemoryOptions = {}) {
    this.#connection = new Connection(options);
  }

  /**
   * Remember an event; durable when it resolves. A relative filePath is relative to the current
   * folder. Rejects with EventError naming the field that is missing, wrong or denied.
   */
  async recordEvent(event: Draft, options: CallOptions = {}): Promise<Event> {
    if (typeof event !== "object" || event === null || Array.isArray(event)) {
      throw eventError("", "an event is an object");
    }
    const body = eventText(event, currentFolder());
    const asked: Request = { method: "POST", path: "/v1/record", body };
    const answer = (await this.#call(asked, options, false)) as {
      recorded: Event[];
      failed: { field: string; message: string }[];
    };
    for (const { field, message } of answer.failed) throw new EventError(message, "event", field);
    const [recorded] = answer.recorded;
    if (recorded === undefined) throw new DaemonError("the daemon's answer is not understood");
    return recorded;
  }

  /** The k events, at most 100, that answer a question best, best first. */
  async queryRecent(k: number, query: string, options: QueryOptions = {}): Promise<FoundEvent[]> {
    const { signal, timeoutMs, ...fields } = options;
    return this.#events("query", { ...fields, k, query }, { signal, timeoutMs });
  }

  /** The k newest events, at most 1000, newest first; their score is 0. */
  async recent(k: number, options: Filters & CallOptions = {}): Promise<FoundEvent[]> {
    const { signal, timeoutMs, ...fields } = options;
    return this.#events("recent", { ...fields, k }, { signal, timeoutMs });
  }

  /** Events in order, oldest first: around one, or the newest. */
  async timeline(options: TimelineOptions = {}): Promise<Event[]> {
    const { signal, timeoutMs, ...fields } = options;
    return this.#events("timeline", fields, { signal, timeoutMs });
  }

  /** Keep an event whatever else is evicted, or let it go; durable when it resolves. */
  async pin(id: string, options: { readonly pinned?: boolean } & CallOptions = {}): Promise<Event> {
    const { signal, timeoutMs, pinned = true } = options;
    const answer = await this.#post("pin", { id, pinned }, { signal, timeoutMs });
    return (answer as { event: Event }).event;
  }

  /** Forget events for good; how many were here. */
  async forget(ids: readonly string[], options: CallOptions = {}): Promise<number> {
    // Without ids everything would be meant.
    const answer = await this.#post("forget", { ids: ids ?? [] }, options);
    return (answer as { count: number }).count;
  }

  /** What there is. */
  async status(options: CallOptions = {}): Promise<Status> {
    const asked: Request = { method: "GET", path: "/v1/status", body: null };
    return (await this.#call(asked, options, true)) as Status;
  }

  /**
   * Events as they become durable, from here and from other devices, until it is ended. It goes on
   * with the next daemon when this one is replaced; only the first is started.
   */
  watch(options: WatchOptions = {}): Watching {
    const { signal, ...fields } = options;
    return new Watching(this.#connection, fields, signal);
  }

  /** Give the connections back. The daemon goes on. */
  close(): void {
    this.#connection.close();
  }

  async #events<T>(name: string, fields: object, options: CallOptions): Promise<T[]> {
    return ((await this.#post(name, fields, options)) as { events: T[] }).events;
  }

  #post(name: string, fields: object, options: CallOptions): Promise<unknown> {
    const asked: Request = { method: "POST", path: `/v1/${name}`, body: fieldsText(fields) };
    return this.#call(asked, options, true);
  }

  async #call(asked: Request, options: CallOptions, repeatable: boolean): Promise<unknown> {
    options.signal?.throwIfAborted();
    const timeoutMs = options.timeoutMs ?? this.#connection.timeoutMs;
    const [status, text] = await this.#connection.send(asked, repeatable, timeoutMs, options.signal);
    const answer = parsed(text);
    if (status !== 200) throw errorOf(answer);
    return answer;
  }
}

function currentFolder(): string | null {
  try {
    return process.cwd();
  } catch {
    return null; // it has been removed
  }
}
