-- Batches of 1,000 hits, one line each, over 1,000 pages.
math.randomseed(7)
local bodies = {}
for n = 1, 16 do
  local lines = {}
  for line = 1, 1000 do lines[line] = '{"page": "example.com/page-' .. math.random(1000) .. '"}' end
  bodies[n] = table.concat(lines, "\n") .. "\n"
end
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/x-ndjson"
local n = 0
request = function()
  n = n % 16 + 1
  return wrk.format(nil, nil, nil, bodies[n])
end
