// Requests to the daemon that there is, over its Unix socket or loopback, and to the next one.

import { Agent, request as httpRequest } from "node:http";
import type { ClientRequest, IncomingMessage } from "node:http";
import { setTimeout as pause } from "node:timers/promises";

import { DaemonError, DaemonTimeout, LocalmemError } from "./errors.js";
import { launch } from "./launch.js";
import { isSame, readState, runtimeFolder } from "./locate.js";
import type { DaemonState, Environment } from "./locate.js";
import type { MemoryOptions } from "./types.js";

/** Tries of a call that may be repeated, when the connection breaks, and the waits between them. */
export const ATTEMPTS = 4;
const PAUSES_MS = [50, 100, 200, 500, 1000] as const;

const ANSWER_MS = 60_000;
const ANSWER_BYTES_MAX = 256 * 1024 * 1024;

/** What a daemon takes. */
const BODY_BYTES_MAX = 32 * 1024 * 1024;

/** How long to wait before the next attempt, from 0. */
export function pauseMs(attempt: number): number {
  return PAUSES_MS[Math.min(attempt, PAUSES_MS.length - 1)] ?? 1000;
}

/** The connection broke; `sent` says whether the daemon may have got the request. */
export class Broken extends Error {
  constructor(
    message: string,
    readonly sent: boolean,
  ) {
    super(message);
  }
}

/** One request: `body` is JSON, or nothing. */
export interface Request {
  readonly method: "GET" | "POST";
  readonly path: string;
  readonly body: string | null;
}

/** The way to the daemon, shared by all calls of a client. */
export class Connection {
  readonly timeoutMs: number;
  readonly #environment: Environment;
  readonly #folder: string;
  readonly #command: readonly string[];
  readonly #starts: boolean;
  readonly #loopback: boolean;
  readonly #agent = new Agent({ keepAlive: true });
  #starting: Promise<void> | null = null;
  #closed = false;

  /** Throws ConfigError. */
  constructor(options: MemoryOptions) {
    this.#environment = { ...(options.environment ?? process.env) };
    this.#folder = runtimeFolder(this.#environment);
    this.#command = options.command ?? ["localmem"];
    this.#starts = options.start ?? true;
    this.#loopback = (options.transport ?? transportHere()) === "loopback";
    this.timeoutMs = options.timeoutMs ?? ANSWER_MS;
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  /** Ends idle connections; calls under way are finished. */
  close(): void {
    this.#closed = true;
    this.#agent.destroy();
  }

  /** The daemon that there is, started if need be. Rejects with what keeps it from starting. */
  async daemon(start = this.#starts): Promise<DaemonState | null> {
    const state = readState(this.#folder);
    if (state !== null || !start) return state;
    await this.start();
    return readState(this.#folder);
  }

  /** Starts the daemon, or sees that it is there; one start for all who wait. */
  start(): Promise<void> {
    if (!this.#starts) {
      return Promise.reject(new DaemonError("no daemon is running; start one with: localmem up"));
    }
    this.#starting ??= launch(this.#command, this.#environment).finally(() => {
      this.#starting = null;
    });
    return this.#starting;
  }

  /** Whether another daemon says where it is by now. */
  isReplaced(state: DaemonState): boolean {
    return !isSame(readState(this.#folder), state);
  }

  /** The status and the text of an answer; asked again if that may be done. */
  async send(
    asked: Request,
    repeatable: boolean,
    timeoutMs: number,
    signal: AbortSignal | undefined,
  ): Promise<[number, string]> {
    if (this.#closed) throw new DaemonError("this client is closed");
    if (asked.body !== null && Buffer.byteLength(asked.body) > BODY_BYTES_MAX) {
      throw new LocalmemError(`a call has at most ${BODY_BYTES_MAX} bytes`, "too_large");
    }
    const limit = new Limit(null, signal); // a start of the daemon takes its own time
    try {
      return await limit.hold(this.#sent(asked, repeatable, timeoutMs, limit));
    } finally {
      limit.end();
    }
  }

  /** A request to one daemon; resolves with the head of the answer. Rejects with Broken. */
  open(
    state: DaemonState,
    asked: Request,
    signal: AbortSignal,
    agent: Agent | false,
  ): Promise<IncomingMessage> {
    const data = Buffer.from(asked.body ?? "");
    const place = this.#loopback
      ? { host: "127.0.0.1", port: state.port }
      : { socketPath: state.socket };
    return new Promise((settle, refuse) => {
      let request: ClientRequest;
      let connected = false;
      try {
        request = httpRequest({
          ...place,
          agent,
          signal,
          method: asked.method,
          path: asked.path,
          headers: {
            Host: "localhost",
            Authorization: `Bearer ${state.token}`,
            "Content-Type": "application/json",
            "Content-Length": data.length,
          },
        });
      } catch (error) {
        refuse(new Broken((error as Error).message, false));
        return;
      }
      request.on("socket", (socket) => {
        if (!socket.connecting) connected = true;
        else socket.once("connect", () => (connected = true));
      });
      request.on("response", settle);
      request.on("error", (error) => refuse(new Broken(error.message, connected)));
      request.end(data);
    });
  }

  async #sent(
    asked: Request,
    repeatable: boolean,
    timeoutMs: number,
    limit: Limit,
  ): Promise<[number, string]> {
    for (let attempt = 0; attempt < ATTEMPTS && !limit.over; attempt += 1) {
      const state = await this.daemon();
      if (state === null) {
        await this.start();
        continue;
      }
      try {
        const [status, text] = await this.#exchange(state, asked, repeatable, timeoutMs, limit);
        // A daemon that has just begun may have been told the token of the one before it.
        if (status !== 401 || !this.isReplaced(state)) return [status, text];
      } catch (error) {
        if (!(error instanceof Broken) || limit.over) throw error;
        if (error.sent && !repeatable) {
          throw new DaemonError(
            `the daemon went away before it answered: ${error.message}; ` +
              "what was sent may or may not be done",
          );
        }
        if (!error.sent) await this.start(); // only the files of one that was killed are there
      }
      await pause(pauseMs(attempt));
    }
    throw new DaemonError("the daemon cannot be reached; run: localmem doctor");
  }

  async #exchange(
    state: DaemonState,
    asked: Request,
    repeatable: boolean,
    timeoutMs: number,
    limit: Limit,
  ): Promise<[number, string]> {
    // A kept connection may have been closed by the daemon, and only what is sent tells.
    const agent = repeatable ? this.#agent : false;
    const answering = new Limit(timeoutMs, limit.signal);
    const answered = async (): Promise<[number, string]> => {
      const answer = await this.open(state, asked, answering.signal, agent);
      return [answer.statusCode ?? 0, await read(answer)];
    };
    try {
      return await answering.hold(answered());
    } finally {
      answering.end();
    }
  }
}

/** The end of a call: its time, if it has one, or its caller's signal. */
export class Limit {
  readonly #controller = new AbortController();
  readonly #given: AbortSignal | undefined;
  readonly #timer: NodeJS.Timeout | undefined;
  readonly #ended: Promise<never>;
  #end!: (error: unknown) => void;
  readonly #abort = (): void => this.#over(this.#given?.reason);

  constructor(timeoutMs: number | null, signal: AbortSignal | undefined) {
    this.#given = signal;
    this.#ended = new Promise((_, refuse) => {
      this.#end = refuse;
    });
    this.#ended.catch(() => undefined); // somebody may hold it later, or nobody
    if (timeoutMs !== null) {
      const said = `the daemon did not answer within ${timeoutMs} ms; run: localmem doctor`;
      this.#timer = setTimeout(() => this.#over(new DaemonTimeout(said)), timeoutMs);
    }
    if (signal?.aborted) this.#abort();
    else signal?.addEventListener("abort", this.#abort, { once: true });
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  get over(): boolean {
    return this.#controller.signal.aborted;
  }

  /** What a promise gives, or the reason of the end if that comes first. */
  hold<T>(promise: Promise<T>): Promise<T> {
    promise.catch(() => undefined); // after the end nobody waits for it
    return Promise.race([this.#ended, promise]);
  }

  /** Nothing is limited any more. */
  end(): void {
    clearTimeout(this.#timer);
    this.#given?.removeEventListener("abort", this.#abort);
  }

  #over(reason: unknown): void {
    this.end();
    this.#end(reason);
    this.#controller.abort(reason);
  }
}

/** The whole text of an answer. Rejects with Broken. */
export async function read(answer: IncomingMessage): Promise<string> {
  const pieces: Buffer[] = [];
  let size = 0;
  try {
    for await (const piece of answer as AsyncIterable<Buffer>) {
      size += piece.length;
      if (size > ANSWER_BYTES_MAX) throw new Error("the answer is too large");
      pieces.push(piece);
    }
  } catch (error) {
    throw new Broken((error as Error).message, true);
  }
  return Buffer.concat(pieces).toString("utf8");
}

function transportHere(): "socket" | "loopback" {
  return process.platform === "win32" ? "loopback" : "socket";
}
