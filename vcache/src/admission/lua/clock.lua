-- The server's clock: `now`, in whole microseconds since 1970. That is about 2^51, and below 2^53 until the year 2255.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
