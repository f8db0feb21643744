#!/usr/bin/env bash
# Compare the running API with its OpenAPI document: schemathesis sends what the document allows
# and what it does not. It takes a minute or two, so it is not one of pytest's tests.
#
#   tests/console/contract.sh [EXAMPLES]      needs schemathesis beside python, or on the PATH
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
python=${PYTHON:-.venv.test/bin/python}
folder=$(mktemp -d)
exec 3< <(PYTHONPATH=src exec "$python" -m metricshub_apikey console --keystore "$folder/security/metricshub-keystore.p12" </dev/null)
console=$!
trap 'kill "$console" 2>/dev/null || true; rm -rf "$folder"' EXIT
read -r -u 3 link
origin=${link%%/#*}
token=$("$python" - "$origin" "${link##*#}" <<'PYTHON'
import json, sys, urllib.request
origin, ticket = sys.argv[1:]
body = json.dumps({"ticket": ticket}).encode()
headers = {"Content-Type": "application/json"}
asked = urllib.request.Request(f"{origin}/v1/sessions", body, headers)
print(json.load(urllib.request.urlopen(asked))["token"])
PYTHON
)
mkdir "$folder/security"
# Aliases, texts and times have rules that no JSON schema says, so data that fits the schema may be
# refused; an If-None-Match may be left out, and the sign-out would end the session.
cd "$folder"
"$(dirname "$(command -v "$python" || echo "$OLDPWD/$python")")/schemathesis" run "$origin/v1/openapi.json" \
    --header "Authorization: Bearer $token" --exclude-path /v1/sessions/current \
    --checks all --exclude-checks positive_data_acceptance,missing_required_header,ignored_auth \
    --phases examples,coverage,fuzzing --max-examples "${1:-15}" --no-color --seed 1
