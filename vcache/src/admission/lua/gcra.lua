-- The generic cell rate algorithm: what a throttle's key owes at `now`, in whole numbers.
--
-- A throttle lets LIMIT units through per PERIOD (microseconds), and BURST at once. Debt is counted in LIMITths of a
-- microsecond: a unit costs exactly PERIOD, LIMIT flow off every microsecond, and BURST * PERIOD (`full`) is the most
-- that may be owed. So nothing is rounded, however fast the rate.
--
-- A key holds three big-endian doubles: the microsecond it was charged at, the debt then, and PERIOD then. It is the
-- theoretical arrival time before it is divided by the rate. Kept so, a changed rule holds from the last charge on: the
-- units owed stay the same, what is above the new burst is forgiven, and the rest flows off at the new rate, though
-- refusals write nothing. (Binary because printing and parsing numbers took as long as all the arithmetic.)
--
-- Numbers are doubles, exact while they are whole and below 2^53:
-- * `full` is at most 2^52 and no debt is above `full`, so the sum of two is exact.
-- * Where a product may pass 2^53 it is only compared with numbers below, and rounding never turns that round.
-- * floor(a / b) and ceil(a / b) are exact for whole a < 2^53 and b >= 1: a quotient that is not whole is at least
--   1 / b away from the next whole number, which is more than half the distance between doubles there.
local floor, ceil = math.floor, math.ceil

-- The moment that all is counted by: the clock, or the moment that a key was charged at if that is up to a second later.
-- For a clock steps back now and then, by microseconds (Valkey 9.1, valkey-io/valkey#3193) or when it is corrected. If
-- the key went back with it, what flows off in between would flow off twice.
local now = clock

-- The debt, and whether the state is from further in the future because the clock was set back. Such a debt would not
-- flow off before that future.
local function owed(key, limit, period, full)
  if not (limit >= 1 and period >= 1 and full >= period and full <= 4503599627370496) then
    error(redis.error_reply('ERR the rule of ' .. key .. ' is below 1 or too large to be counted exactly'))
  end
  local stored = redis.call('GET', key)
  if not stored then
    return 0, false
  end
  local at, debt, unit
  if #stored == 24 then
    at, debt, unit = struct.unpack('>ddd', stored)
  end
  if not (at and at >= 0 and debt >= 0 and debt <= 4503599627370496 and unit >= 1 and unit <= 4503599627370496) then
    error(redis.error_reply('FOREIGN the key ' .. key .. ' holds something else than the state of a throttle'))
  end
  if unit ~= period then
    -- ceil(debt * period / unit), where the product may be far above 2^53: what is above whole units is multiplied a
    -- bit of `period` a turn. `left` is below `unit` before each step, so its double and the sum are below 2^53.
    local units = floor(debt / unit)
    local rest = debt - units * unit
    local factor, quotient, left, bit = period, 0, 0, 4503599627370496
    while bit >= 1 do
      quotient, left = quotient * 2, left * 2
      if left >= unit then
        quotient, left = quotient + 1, left - unit
      end
      if factor >= bit then
        factor, left = factor - bit, left + rest
        if left >= unit then
          quotient, left = quotient + 1, left - unit
        end
      end
      bit = bit / 2
    end
    debt = units * period + quotient
    if left > 0 then
      debt = debt + 1
    end
  end
  if debt > full then
    debt = full
  end
  if at > now then
    if at - clock > 1000000 then
      return debt, true
    end
    now = at
  end
  debt = debt - (now - at) * limit
  if debt < 0 then
    debt = 0
  end
  return debt, false
end
