"""Learned routing: how likely the local model will do, told before it is asked, with how sure that is.

`traits.py` is what is seen of a request, `training.py` makes a model file of labelled requests, `live.py` keeps the
newest one loaded, `chooser.py` turns its prediction into an opinion or abstains, `explore.py` leaves some requests to
chance and says how likely each choice was, and `offpolicy.py` reads from such logs what other policies would have done.
"""
