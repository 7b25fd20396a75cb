"""Servers of models over the network, timed from outside: whoever speaks the OpenAI protocol. Knows no torch and no Django."""
