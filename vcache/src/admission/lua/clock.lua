-- The server's clock, in whole microseconds since 1970. That is about 2^51, and below 2^53 until the year 2255.
local time = redis.call('TIME')
local clock = time[1] * 1000000 + time[2]
