"""What each kind of answer says to the sections of a report: words, charts, and the tables behind them."""
