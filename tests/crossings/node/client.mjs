// An MCP client on the official SDK: node client.mjs sse|http URL KEY; prints what it saw as JSON.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [kind, url, key, home] = process.argv.slice(2);
const find = createRequire(pathToFileURL(home + "/x.js"));
const load = (name) => import(pathToFileURL(find.resolve("@modelcontextprotocol/sdk/" + name)));
const { Client } = await load("client/index.js");
const { StreamableHTTPClientTransport } = await load("client/streamableHttp.js");
const { SSEClientTransport } = await load("client/sse.js");

const headers = { Authorization: "Bearer " + key };
const options = { requestInit: { headers } };
const transport =
  kind === "sse"
    ? new SSEClientTransport(new URL(url), options)
    : new StreamableHTTPClientTransport(new URL(url), options);
const client = new Client({ name: "test", version: "1" });
const seen = {};
try {
  await client.connect(transport);
  seen.tools = (await client.listTools()).tools.map((tool) => tool.name);
  seen.hosts = (await client.callTool({ name: "ListHosts", arguments: {} })).content[0].text;
  await client.callTool({ name: "ExecuteSshCommandline", arguments: { commandline: "id" } });
  seen.refusal = "none";
} catch (error) {
  seen.refusal = String(error.message);
}
console.log(JSON.stringify(seen));
process.exit(0);
