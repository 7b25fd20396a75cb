"""The servers that other tests stand on are real, reachable and empty."""

from __future__ import annotations

import psycopg
import redis


def test_postgres_gives_each_test_an_empty_database(postgres_database):
    with psycopg.connect(postgres_database) as connection:
        tables = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
        connection.execute("CREATE TABLE marker (id int)")
    assert tables == (0,)


def test_a_database_is_gone_after_its_test_even_with_a_connection_left_open(postgres_url):
    from tests.services import new_database

    with new_database(postgres_url) as url:
        left_open = psycopg.connect(url)
        name = left_open.info.dbname
    with psycopg.connect(postgres_url) as connection:
        found = connection.execute("SELECT count(*) FROM pg_database WHERE datname = %s", [name]).fetchone()
    left_open.close()
    assert found == (0,)


def test_redis_answers(redis_url):
    client = redis.Redis.from_url(redis_url)
    client.set("llmcompare-test", "1", ex=10)
    assert client.get("llmcompare-test") == b"1"
