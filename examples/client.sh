#!/usr/bin/env bash
# How to call CTR Scorer with curl: score, then say what was shown and clicked. The first item counts as clicked.
#   examples/client.sh http://127.0.0.1:8080 17 42 300 114
# DEADLINE_MS is the longest wait for the scores. CURL_ARGS may hold more arguments of curl, one to a word, such as
# CURL_ARGS='-H @key.txt' with a file that has "Authorization: Bearer ..." in it.
set -euo pipefail
url=$1 user=$2
shift 2
items=$(IFS=,; echo "$*")
deadline_ms=${DEADLINE_MS:-500}
id="curl-$(date +%s)-$$"

# After a 429 or a 503 curl waits as Retry-After says, and tries again until --retry-max-time; --max-time is of each try.
post() {  # path, body
  # shellcheck disable=SC2086  # words are meant
  curl -sS --fail --max-time $((deadline_ms / 1000 + 1)) --retry 2 --retry-max-time 3 ${CURL_ARGS:-} \
    -H 'Content-Type: application/json' -H "X-Deadline-Ms: $deadline_ms" "$url$1" -d "$2"
}

if ! answer=$(post /score "{\"request_id\": \"$id\", \"user_id\": $user, \"candidates\": {\"item_id\": [$items]}}"); then
  echo "no scores, so the order given: $items"
  exit
fi
echo "$answer"

field() { grep -o "\"$1\":[^,}]*" <<<"$answer" | head -n 1 | cut -d: -f2-; }  # the first one of this name, as JSON
post /events "{\"event_id\": \"$id-$1\", \"user_id\": $user, \"item_id\": $1, \"time\": $(date +%s)000}"
echo
post /feedback "{\"request_id\": \"$id\", \"bundle_version\": $(field bundle_version),
  \"impressions\": [{\"item_id\": $1, \"pctr\": $(field pctr), \"clicked\": true}]}"
echo
