"""Tools in the layouts of the models that know them: prompt, grammar and parser of each."""
