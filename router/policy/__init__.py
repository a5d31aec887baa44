"""Who should answer: rules as data, features of a request, and the decision with its reasons. Pure, no I/O."""
