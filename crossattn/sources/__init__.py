"""Where bars come from: Bybit, Yahoo, packaged samples, exchange calendars."""
