-- The generic cell rate algorithm: what a throttle's key owes at `now`, in whole numbers.
--
-- A throttle lets LIMIT units through per PERIOD (microseconds), and BURST at once. Debt is counted in LIMITths of a
-- microsecond: a unit costs exactly PERIOD, LIMIT flow off every microsecond, and BURST * PERIOD (`full`) is the most
-- that may be owed. So nothing is rounded, however fast the rate.
--
-- A key holds `<microseconds when it was charged>:<debt then>:<PERIOD then>`, which is the theoretical arrival time
-- before it is divided by the rate. Kept so, a changed rule holds from the last charge on: the units owed stay the same,
-- what is above the new burst is forgiven, and the rest flows off at the new rate, though refusals write nothing.
--
-- Numbers are doubles, whole and exact below 2^53:
-- * `full` is at most 2^52, which `sound` sees to, and no debt is above `full`. Hence sums of two debts are exact.
-- * Where a product may pass 2^53 it is only compared with numbers below, and rounding never turns that round.
-- * floor(a / b) and ceil(a / b) are exact for whole a < 2^53 and b >= 1: a quotient that is not whole is at least 1 / b
--   away from the next whole number, which is more than half the distance between doubles there.
local floor, ceil = math.floor, math.ceil

local function sound(limit, period, burst)
  return limit >= 1 and period >= 1 and burst >= 1 and burst * period <= 4503599627370496
end

-- A debt counted in units of `from`, in units of `to`, rounded up. All are whole and at most 2^52.
local function rescale(debt, from, to, full)
  local units = floor(debt / from)
  if units * to >= full then
    return full
  end
  -- ceil(rest * to / from), where the product may be far above 2^53: by long multiplication, a bit of `to` a turn.
  -- `left` stays below `from`, so twice it and the sum are below 2^53, and the quotient ends at `to` or below.
  local rest = debt - units * from
  local scale, quotient, left, bit = to, 0, 0, 4503599627370496
  while bit >= 1 do
    quotient, left = quotient * 2, left * 2
    if left >= from then
      quotient, left = quotient + 1, left - from
    end
    if scale >= bit then
      scale, left = scale - bit, left + rest
      if left >= from then
        quotient, left = quotient + 1, left - from
      end
    end
    bit = bit / 2
  end
  if left > 0 then
    quotient = quotient + 1
  end
  return units * to + quotient
end

-- What the key owes, and whether its state is from the future, because the server's clock was set back. It flows off
-- from the day it was charged, so it would not at all until then; it is never above a full burst.
local function owed(key, limit, period, full)
  local stored = redis.call('GET', key)
  if not stored then
    return 0, false
  end
  local at, debt, unit = string.match(stored, '^(%d+):(%d+):([1-9]%d*)$')
  if not at then
    error(redis.error_reply('ERR the key ' .. key .. ' holds something else than the state of a throttle'))
  end
  debt, unit = tonumber(debt), tonumber(unit)
  if unit ~= period then
    debt = rescale(debt, unit, period, full)
  elseif debt > full then
    debt = full
  end
  local elapsed = now - at
  if elapsed < 0 then
    return debt, true
  end
  debt = debt - elapsed * limit
  if debt < 0 then
    debt = 0
  end
  return debt, false
end
