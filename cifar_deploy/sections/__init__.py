"""The sections of a report, each a function from results to a titled table, or to None if there is nothing to say."""
