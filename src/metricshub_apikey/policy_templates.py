"""The policy files that `apikey policy init` writes, comments and all."""

from __future__ import annotations

import re

STRICT = """\
# The rules for API keys. This file lies beside the keystore, and every rule in it is checked when
# a key is created, edited or rotated. `apikey policy show` prints what it says, `apikey policy
# check` says which keys break it. A rule after a # is switched off.

# The services stand behind the gateway, which asks for roles. A stock MetricsHub server does not:
# there, every key has full access.
#enforced = true

# The Redis or Valkey server where several gateways count requests together, and where `apikey list`
# finds when keys were last used. A password belongs into METRICSHUB_APIKEY_STATE instead.
#state = "rediss://redis.example:6379"

[keys]
# Every key must end.
require_expiry = true

# The life of a key that is created without --expires-in and --expires-on.
default_lifetime = "90d"

# The choices of --expires-in. Without this line any length will do.
lifetimes = ["30d", "60d", "90d", "180d", "1y"]

# The longest life of a key, from its creation.
max_lifetime = "1y"

# Every key needs a role.
require_role = true

# How new keys look: "uuid", or "prefixed", so that scanners find a key that has leaked. A prefix
# has 2 to 32 lower-case letters, digits and single underscores, with an underscore at its end.
format = "prefixed"
prefix = "metoro_secret_"

# What each role may do: a method, or * for any, and a path. In a path, * stands for one segment or
# a part of it, and ** for any number of segments: /api/** is all below /api/, not /api itself. What
# no rule names is denied, HEAD is not GET, and a key without a role may do nothing.
[roles.read-only]
description = "Dashboards and reporting tools"
allow = ["GET /**"]

[roles.metrics-writer]
description = "Applications that push metrics"
allow = ["POST /api/v1/metrics/**"]

# An AI client needs the two paths of MCP: it opens a stream, and posts its messages.
[roles.alert-manager]
description = "People and programs that manage alerts"
allow = ["GET /api/**", "* /api/v1/alerts", "* /api/v1/alerts/**", "GET /sse", "POST /mcp/message"]

[roles.full-access]
description = "Administrators"
allow = ["* /**"]

# What the gateway lets one key do.
[rate_limit]
requests_per_minute = 1000
burst_per_second = 100
"""

STOCK = re.sub(r"(?m)^(?=[^#\n])", "#", STRICT)
"""The same, every rule switched off."""

TEMPLATES = {"stock": STOCK, "strict": STRICT}
