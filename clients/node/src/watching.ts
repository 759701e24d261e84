// `Memory.watch`: live events as an async iterator, from one daemon to the next.

import type { IncomingMessage } from "node:http";
import { setTimeout as pause } from "node:timers/promises";

import { ATTEMPTS, Broken, Limit, pauseMs, read } from "./connection.js";
import type { Connection } from "./connection.js";
import { DaemonError, errorOf, problemOf } from "./errors.js";
import { fieldsText, parsed } from "./json.js";
import type { DaemonState } from "./locate.js";
import type { Event, Filters } from "./types.js";

const PATH = "/v1/watch";

/** A daemon that says nothing for three heartbeats is lost. */
const SILENCE_MS = 3 * 15_000;

/** Reasons of a daemon that ends a watch to come again. */
const PASSING = new Set(["stopping", "too_slow", "too_many_watches"]);

interface Line {
  readonly watching?: { readonly complete: boolean; readonly after: string | null };
  readonly event?: Event;
  readonly error?: unknown;
}

/** Events as they become durable: an async iterator that `close`, `break` or a signal ends. */
export class Watching implements AsyncIterableIterator<Event> {
  /** Resolves once the daemon tells; rejects with what `next` will reject with. */
  readonly ready: Promise<void>;

  readonly #connection: Connection;
  readonly #fields: Filters & { after?: string | null | undefined };
  readonly #signal: AbortSignal | undefined;
  readonly #ended = new AbortController();
  readonly #events: AsyncGenerator<Event, undefined>;
  #failure: unknown = null;
  #begun = false;
  #complete = true;
  #settle!: () => void;
  #refuse!: (reason: unknown) => void;

  constructor(
    connection: Connection,
    fields: Filters & { after?: string | null | undefined },
    signal: AbortSignal | undefined,
  ) {
    this.#connection = connection;
    this.#fields = { ...fields };
    this.#signal = signal;
    this.ready = new Promise((settle, refuse) => {
      this.#settle = settle;
      this.#refuse = refuse;
    });
    this.ready.catch(() => undefined); // `next` tells as well
    if (signal?.aborted) this.#ended.abort();
    else signal?.addEventListener("abort", this.#abort, { once: true });
    const first = this.#first();
    first.catch((reason: unknown) => {
      this.#failure = this.#isOver ? null : reason;
      this.#refuse(reason);
      this.close();
    });
    this.#events = this.#told(first);
  }

  /** False once events of other devices may have been left out, after an interruption. */
  get complete(): boolean {
    return this.#complete;
  }

  /** The next event; waits for it. */
  next(): Promise<IteratorResult<Event, undefined>> {
    return this.#events.next();
  }

  /** Ends it, as `close`. */
  async return(): Promise<IteratorResult<Event, undefined>> {
    this.close();
    return { done: true, value: undefined };
  }

  /** End it: whoever waits for the next event is told that there is none. */
  close(): void {
    this.#signal?.removeEventListener("abort", this.#abort);
    this.#ended.abort();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  readonly #abort = (): void => this.#ended.abort();

  async *#told(first: Promise<AsyncGenerator<Line>>): AsyncGenerator<Event, undefined> {
    try {
      let lines: AsyncGenerator<Line> | null = await first;
      for (;;) {
        lines ??= await this.#again();
        try {
          for await (const line of lines) {
            const event = this.#heard(line);
            if (event !== null) yield event;
          }
        } catch (error) {
          if (!(error instanceof Broken)) throw error;
        }
        lines = null;
        if (this.#isOver) break;
      }
    } catch (error) {
      if (!this.#isOver || error === this.#failure) throw error;
    } finally {
      this.close();
    }
    if (this.#signal?.aborted) throw this.#signal.reason;
    return undefined;
  }

  get #isOver(): boolean {
    return this.#ended.signal.aborted;
  }

  /** The lines of the first daemon. Rejects with what keeps it from telling. */
  async #first(): Promise<AsyncGenerator<Line>> {
    const limit = new Limit(null, this.#signal);
    try {
      return await limit.hold(this.#begin(limit));
    } finally {
      limit.end();
    }
  }

  async #begin(limit: Limit): Promise<AsyncGenerator<Line>> {
    fieldsText(this.#fields);
    for (let attempt = 0; attempt < ATTEMPTS && !limit.over && !this.#isOver; attempt += 1) {
      const state = await this.#connection.daemon();
      try {
        if (state !== null) return await this.#answered(state);
      } catch (error) {
        if (!(error instanceof Broken)) throw error;
        if (!error.sent) await this.#connection.start();
      }
      await pause(pauseMs(attempt));
    }
    throw new DaemonError("the daemon went away before it answered; watch again");
  }

  async #answered(state: DaemonState): Promise<AsyncGenerator<Line>> {
    const answering = new Limit(this.#connection.timeoutMs, undefined);
    try {
      return await answering.hold(this.#open(state));
    } finally {
      answering.end();
    }
  }

  /** The lines of the next daemon, once somebody has started it. */
  async #again(): Promise<AsyncGenerator<Line>> {
    for (let attempt = 0; ; attempt += 1) {
      await pause(pauseMs(attempt), undefined, { signal: this.#ended.signal });
      const state = await this.#connection.daemon(false);
      try {
        if (state !== null) return await this.#open(state);
      } catch (error) {
        if (!(error instanceof Broken)) throw error;
      }
    }
  }

  async #open(state: DaemonState): Promise<AsyncGenerator<Line>> {
    if (this.#begun && this.#fields.after == null) {
      this.#complete = false; // nothing was there before, so nothing says where to go on
    }
    const asked = { method: "POST", path: PATH, body: fieldsText(this.#fields) } as const;
    const answer = await this.#connection.open(state, asked, this.#ended.signal, false);
    if (answer.statusCode !== 200) {
      const told = parsed(await read(answer));
      if (answer.statusCode === 401 && this.#connection.isReplaced(state)) {
        throw new Broken("another daemon took over", false);
      }
      this.#refused(told);
    }
    const lines = linesOf(answer);
    const first = await lines.next();
    if (first.done === true) throw new Broken("the daemon went away", true);
    this.#heard(first.value);
    return lines;
  }

  #heard(line: Line): Event | null {
    if (line.event !== undefined) {
      this.#fields.after = line.event.id;
      return line.event;
    }
    if (line.watching !== undefined) {
      this.#begun = true;
      this.#complete &&= line.watching.complete;
      this.#fields.after = line.watching.after;
      this.#settle();
    }
    if (line.error !== undefined) this.#refused(line);
    return null;
  }

  #refused(told: unknown): never {
    if (this.#begun && PASSING.has(problemOf(told)?.code ?? "")) {
      throw new Broken("the daemon ended it", true);
    }
    throw errorOf(told);
  }
}

/** The lines of an answer, by line feeds alone. Throws Broken where the connection ends. */
async function* linesOf(answer: IncomingMessage): AsyncGenerator<Line> {
  answer.setTimeout(SILENCE_MS, () => answer.destroy(new Error("the daemon is silent")));
  const pieces: Buffer[] = [];
  try {
    for await (const chunk of answer as AsyncIterable<Buffer>) {
      let from = 0;
      for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, from)) {
        pieces.push(chunk.subarray(from, at));
        from = at + 1;
        const line = Buffer.concat(pieces.splice(0)).toString("utf8");
        yield parsed(line) as Line;
      }
      pieces.push(chunk.subarray(from));
    }
  } catch (error) {
    if (error instanceof DaemonError) throw error;
    throw new Broken((error as Error).message, true);
  }
}
