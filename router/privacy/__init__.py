"""What is private, and the guard that lets nothing private go to a cloud."""
