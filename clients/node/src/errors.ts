// Every error of this client. The daemon's codes are stable; messages are for people.

/** Base of all. `code` is stable; `field` names what was wrong of the call, where that is known. */
export class LocalmemError extends Error {
  readonly code: string;
  readonly field: string | null;

  constructor(message: string, code: string, field: string | null = null) {
    super(field ? `${field}: ${message}` : message);
    this.name = new.target.name;
    this.code = code;
    this.field = field;
  }
}

/** An event that cannot be recorded, or an answer to one. */
export class EventError extends LocalmemError {}

/** A call that cannot be answered: an argument is wrong. */
export class QueryError extends LocalmemError {}

/** A setting, or a file that is not to be trusted. */
export class ConfigError extends LocalmemError {}

/** The store cannot be used. */
export class StoreError extends LocalmemError {}

/** The daemon did not start, does not answer, or refused: `code` says which. */
export class DaemonError extends LocalmemError {
  constructor(message: string, code = "daemon") {
    super(message, code);
  }
}

/** The daemon did not answer in time. What was sent may or may not be done. */
export class DaemonTimeout extends DaemonError {
  constructor(message: string) {
    super(message, "timeout");
  }
}

const STORE = new Set([
  "foreign_file",
  "wrong_version",
  "wrong_key",
  "damaged_store",
  "store_busy",
  "store_failed",
  "store",
]);
const DAEMON = new Set(["unauthorized", "forbidden", "not_found", "method_not_allowed", "bad_request"]);

interface Problem {
  readonly code: string;
  readonly message: string;
  readonly field: string | null;
}

/** The error in an answer; null for one that has none. */
export function problemOf(answer: unknown): Problem | null {
  const found = (answer as { error?: unknown } | null)?.error as Partial<Problem> | undefined;
  if (typeof found !== "object" || found === null || typeof found.code !== "string") return null;
  return {
    code: found.code,
    message: String(found.message),
    field: typeof found.field === "string" ? found.field : null,
  };
}

/** The error that an answer reports. */
export function errorOf(answer: unknown): LocalmemError {
  const found = problemOf(answer);
  if (found === null) {
    return new DaemonError("the daemon's answer is not understood; run: localmem down");
  }
  const { code, message, field } = found;
  if (code === "event") return new EventError(message, code, field);
  if (code === "query") return new QueryError(message, code, field);
  if (code === "config") return new ConfigError(message, code);
  if (code === "timeout") return new DaemonTimeout(message);
  if (STORE.has(code)) return new StoreError(message, code);
  if (code === "daemon" || DAEMON.has(code)) return new DaemonError(message, code);
  return new LocalmemError(message, code, field);
}

/** Refuses an event by its field. */
export function eventError(field: string, message: string): EventError {
  return new EventError(message, "event", field);
}

/** Refuses an argument by its name. */
export function queryError(field: string, message: string): QueryError {
  return new QueryError(message, "query", field);
}
