-- GCRA: a limit of LIMIT per PERIOD seconds, with a burst of LIMIT.
--
-- KEYS[1]  where the theoretical arrival time (TAT) stands, in microseconds of the server's clock
-- ARGV     period in microseconds, limit, cost
-- returns  {allowed 0 or 1, units left, microseconds until the same cost would be allowed (-1: never)}
--
-- A refused call writes nothing. cost * period and limit * period stay below 2^53, which the caller checks.
local period = tonumber(ARGV[1])
local limit = tonumber(ARGV[2])
local cost = tonumber(ARGV[3])
local increment = math.ceil(cost * period / limit)

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])

local tat = tonumber(redis.call('GET', KEYS[1]) or now)
-- A clock that jumped back must not lock anybody out for longer than a full burst takes to drain.
tat = math.min(math.max(tat, now), now + period)

local debt = tat - now

local function left()
  return math.floor((period - debt) * limit / period)
end

if cost > limit then
  return {0, left(), -1}
end
if debt + increment > period then
  return {0, left(), debt + increment - period}
end
if increment > 0 then
  debt = debt + increment
  -- Lua prints large numbers in exponent form unless told otherwise.
  redis.call('SET', KEYS[1], string.format('%.0f', now + debt), 'PX', string.format('%.0f', math.ceil(debt / 1000)))
end
return {1, left(), 0}
