"""Vertex AI through Google's generated clients, one set per connection. No models of Django are here, and nothing global: two connections
with different credentials work side by side in one process.

Google's packages cost seconds and more than 100 MiB to import. Modules here import them inside of functions only (:mod:`.clients` and
:mod:`.open_models`, which are imported that late themselves), so pages may import the rest.
"""
