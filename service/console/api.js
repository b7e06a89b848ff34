// What the page asks of the service, and the errors that come back. Ids above 2^53 stay exact both ways.

/** An answer that is no 2xx, or none at all (status 0). */
export class Refused extends Error {
  constructor(status, { error, error_type, request_id } = {}, key = "API key") {
    super(error ?? "the service does not answer");
    this.status = status;
    this.type = error_type ?? "unreachable";
    this.requestId = request_id ?? null;
    this.key = key; // the name of the key that was asked for, where one was
  }
}

let apiKey = () => "";

/** From now on requests carry the key that `read` gives, if any. */
export function useKey(read) {
  apiKey = read;
}

/** JSON of `path`, by GET or, with a `body`, by POST. `key` is an admin key, if that is asked for. Raises Refused. */
export async function ask(path, { body, headers = {}, key = "" } = {}) {
  const sent = { ...headers },
    bearer = key || apiKey();
  if (bearer) sent.authorization = `Bearer ${bearer}`;
  const options =
    body === undefined
      ? { headers: sent }
      : { method: "POST", headers: { ...sent, "content-type": "application/json" }, body: write(body) };
  const answer = await reach(path, options);
  const text = await answer.text();
  let read = {};
  try {
    read = parse(text);
  } catch {
    /* below: something between us and the service answered */
  }
  if (!answer.ok)
    throw new Refused(
      answer.status,
      read.error ? read : { error: `answered ${answer.status}`, error_type: "http_error" },
      key ? "admin key" : "API key",
    );
  return read;
}

/** The text of `path`. Raises Refused. */
export async function askText(path) {
  const answer = await reach(path, {});
  if (!answer.ok) throw new Refused(answer.status, { error: `answered ${answer.status}`, error_type: "http_error" });
  return answer.text();
}

/** JSON whose integers that a number cannot hold become BigInt, where the browser tells the source text. */
export function parse(text) {
  return JSON.parse(text, (_, value, context) => {
    const inexact = typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value);
    return inexact && /^-?\d+$/.test(context?.source ?? "") ? BigInt(context.source) : value;
  });
}

/** An id as it was typed: a number, a BigInt where a number is not exact, or null if it is no id. */
export function readId(text) {
  if (!/^\d{1,19}$/.test(text)) return null;
  return Number.isSafeInteger(Number(text)) ? Number(text) : BigInt(text);
}

const write = (body) => JSON.stringify(body, (_, value) => (typeof value === "bigint" ? exact(value) : value));
const exact = (value) => (JSON.rawJSON ? JSON.rawJSON(String(value)) : Number(value));

async function reach(path, options) {
  try {
    return await fetch(path, { cache: "no-store", ...options });
  } catch {
    throw new Refused(0);
  }
}
