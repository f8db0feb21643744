// The types of console.js, for `tsc --checkJs`; never served.

type Key = {alias: string, masked: string|null, expires_on: string|null, expires_at: string|null, created_at: string|null, created_by: string|null, roles: string[], service_account: string|null, description: string|null, labels: Record<string, string>, rotated_at: string|null, last_used_at: string|null, unreadable: string|null, suspended?: boolean, end?: number, key?: string, old?: Key|null, notes?: Note[]};
type Note = {code: string, message: string};
type Use = {last_used_at: string|null, accepted?: number[], refused?: number[], addresses?: string[]};
type Usage = {first_day: string|null, recording_since: string|null, heartbeat_at: string|null, keys: Record<string, Use>};
type Role = {description: string|null, allow: string[], tools?: string[]|null, networks?: string[], manage?: string[]};
type Policy = {path: string|null, enforced: boolean, roles: Record<string, Role>|null, keys: {require_expiry: boolean, default_lifetime: string|null, lifetimes: string[], lifetimes_seconds: number[], max_lifetime: string|null, max_lifetime_seconds: number|null, require_role: boolean, format: string, prefix: string|null}, rate_limit: {requests_per_minute: number, burst_per_second: number}, described: [string, string][], server: {now: string, timezone: string|null}};
type Finding = {check: string, severity: string, sentence: string, hint: string|null, aliases: string[]};
type Entry = {at: string, actor: string, action: string, alias: string, details: string|null};
type Problem = {title?: string, status: number, detail: string, code: string, hint: string|null, field: string|null};
type Child = string|number|Node|null|undefined|false;
type Reply = {etag: string|null, expires: number|null, status: number, data: any};
interface Element { [name: string]: any }
interface EventTarget { [name: string]: any }
