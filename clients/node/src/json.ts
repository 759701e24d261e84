// JSON of the daemon's interface: what it does not have is refused by name, large numbers are kept.

import { DaemonError, eventError, queryError } from "./errors.js";
import type { LocalmemError } from "./errors.js";

type Refuse = (field: string, message: string) => LocalmemError;

/** An event as JSON. Throws EventError. */
export function eventText(event: object, folder: string | null): string {
  return encoded({ events: [event], folder }, event, eventError);
}

/** The fields of a call as JSON; those that are undefined are left out. Throws QueryError. */
export function fieldsText(fields: object): string {
  return encoded(fields, fields, queryError);
}

/** An answer. `clock` becomes text: it may be above 2^53. Throws DaemonError. */
export function parsed(text: string): unknown {
  try {
    // In a text this would be written with backslashes before its quotes.
    return JSON.parse(text.replace(/"clock":([0-9]+)/g, '"clock":"$1"'));
  } catch {
    throw new DaemonError("the daemon answered no JSON; run: localmem down");
  }
}

function encoded(whole: object, named: object, refuse: Refuse): string {
  for (const [name, value] of Object.entries(named)) check(name, value, refuse, 0);
  try {
    return JSON.stringify(whole);
  } catch (error) {
    throw refuse("", (error as Error).message);
  }
}

const DEPTH_MAX = 32;

function check(name: string, value: unknown, refuse: Refuse, depth: number): void {
  if (typeof value === "string") {
    if (/\p{Surrogate}/u.test(value)) throw refuse(name, "contains half of a surrogate pair");
  } else if (typeof value === "number") {
    if (!Number.isFinite(value)) throw refuse(name, "must be a finite number");
  } else if (typeof value === "object" && value !== null) {
    if (depth > DEPTH_MAX) throw refuse(name, "is nested too deeply");
    for (const one of Object.values(value)) check(name, one, refuse, depth + 1);
  } else if (!["boolean", "undefined", "object"].includes(typeof value)) {
    throw refuse(name, `must not be a ${typeof value}`);
  }
}
