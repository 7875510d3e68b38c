-- Hits spread evenly over as many pages as the first argument says.
local pages
function init(args)
  pages = tonumber(args[1])
  math.randomseed(os.time())
end
wrk.method = "POST"
request = function()
  return wrk.format(nil, "/hit/example.com/page-" .. math.random(pages))
end
