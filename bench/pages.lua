-- Hits on 1,000 pages, the n-th about 1/n as often as the first.
math.randomseed(7)
local wheel = {}
for n = 1, 1000 do
  for _ = 1, math.ceil(1000 / n) do wheel[#wheel + 1] = n end
end
request = function()
  return wrk.format("POST", "/hit/example.com/page-" .. wheel[math.random(#wheel)])
end
