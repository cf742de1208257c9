-- GCRA: a limit of LIMIT units per PERIOD, with a burst of LIMIT.
--
-- KEYS[1]  where the theoretical arrival time (TAT) stands: whole microseconds of the server's clock, and if there is a
--          fraction, a colon and how many LIMITths of a microsecond it is
-- ARGV     period in microseconds, limit, cost
-- returns  {allowed 0 or 1, units left, microseconds until the same cost would be allowed (-1: never)}
--
-- Debt is counted in LIMITths of a microsecond, in which a unit costs exactly PERIOD and LIMIT flow off every microsecond.
-- So nothing is rounded, and all numbers are whole; they stay below 2^53, which the caller checks. A refused call writes
-- nothing.
local period = tonumber(ARGV[1])
local limit = tonumber(ARGV[2])
local cost = tonumber(ARGV[3])
local full = period * limit

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])

local debt = 0
local stored = redis.call('GET', KEYS[1])
if stored then
  local whole, fraction = string.match(stored, '^(%d+):?(%d*)$')
  local ahead = tonumber(whole) - now
  if ahead >= 0 then
    -- A clock that jumped back must not lock anybody out for longer than a full burst takes to drain.
    debt = math.min(math.min(ahead, period) * limit + math.min(tonumber(fraction) or 0, limit), full)
  end
end

local function left()
  return math.floor((full - debt) / period)
end

if cost > limit then
  return {0, left(), -1}
end
local after = debt + cost * period
if after > full then
  return {0, left(), math.ceil((after - full) / limit)}
end
if cost > 0 then
  debt = after
  local whole = math.floor(debt / limit)
  local fraction = debt - whole * limit
  -- Lua prints large numbers in exponent form unless told otherwise.
  local tat = string.format('%.0f', now + whole)
  if fraction > 0 then
    tat = tat .. string.format(':%.0f', fraction)
  end
  redis.call('SET', KEYS[1], tat, 'PX', string.format('%.0f', math.ceil((whole + 1) / 1000)))
end
return {1, left(), 0}
