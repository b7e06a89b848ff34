-- Arguments: file of candidate lists, first user, users, stride, number of the first request.
-- Counts answers by kind in globals, which `done` collects; prints one JSON object.
local threads, tails, at = {}, {}, 0
local first, users, stride
local headers = { ["Content-Type"] = "application/json" }
ok, degraded, refused, late, other = 0, 0, 0, 0, 0

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  for line in io.lines(args[1]) do
    tails[#tails + 1] = line
  end
  first, users, stride, at = tonumber(args[2]), tonumber(args[3]), tonumber(args[4]), tonumber(args[5])
end

function request()
  local body = string.format('{"user_id":%d,"candidates":', first + at * stride % users) .. tails[at % #tails + 1]
  at = at + 1
  return wrk.format("POST", nil, headers, body)
end

function response(status, _, body)
  if status == 200 then
    if body:find('"degraded":"', 1, true) and not body:find('"degraded":"none"', 1, true) then
      degraded = degraded + 1
    else
      ok = ok + 1
    end
  elseif status == 429 then
    refused = refused + 1
  elseif status == 504 then
    late = late + 1
  else
    other = other + 1
  end
end

function done(summary, latency, _)
  local totals, errors = {}, summary.errors
  for _, name in ipairs({ "ok", "degraded", "refused", "late", "other" }) do
    totals[name] = 0
    for _, thread in ipairs(threads) do
      totals[name] = totals[name] + thread:get(name)
    end
  end
  print(string.format(
    '{"ok":%d,"degraded":%d,"refused":%d,"late":%d,"other":%d,"lost":%d,"seconds":%f,"p50_ms":%f,"p99_ms":%f}',
    totals.ok, totals.degraded, totals.refused, totals.late, totals.other,
    errors.connect + errors.read + errors.write + errors.timeout,
    summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3
  ))
end
