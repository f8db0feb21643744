// Reads bodies in Base64, one a line; says which tool a Node service would call, as JSON.
import { createInterface } from "node:readline";

for await (const line of createInterface({ input: process.stdin })) {
  let called = null;
  try {
    const text = new TextDecoder("utf-8").decode(Buffer.from(line, "base64"));
    const read = JSON.parse(text);
    const messages = Array.isArray(read) ? read : [read];
    for (const one of messages)
      if (one?.method === "tools/call") called = String(one?.params?.name);
  } catch {}
  console.log(JSON.stringify({ called }));
}
