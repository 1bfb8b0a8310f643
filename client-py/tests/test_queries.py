"""Queries, and the three calls with which Hopsworks users begin."""

import json

import httpx
import pytest

import millpond

GROUP = {
    "name": "ctr_5min",
    "version": 1,
    "sql": "SELECT …",
    "primary_key": ["user_id"],
    "event_time": "window_end",
    "columns": [
        {"name": "user_id", "type": "string", "nullable": False},
        {"name": "window_end", "type": "timestamp"},
        {"name": "impressions", "type": "bigint"},
        {"name": "clicks", "type": "bigint"},
        {"name": "ctr", "type": "double"},
    ],
}
FEATURES = [
    {"name": n, "type": t} for n, t in (("impressions", "bigint"), ("clicks", "bigint"), ("ctr", "double"))
]


def serve(seen):
    def reply(request):
        path, body = request.url.path, json.loads(request.content or b"null")
        seen.append((request.method, path, body))
        if path == "/api/v1/feature-groups/ctr_5min/1":
            return httpx.Response(200, json=GROUP)
        if path == "/api/v1/feature-views":
            view = {**body, "features": FEATURES, "serving_keys": ["user_id"]}
            return httpx.Response(200, json=view)
        if path.endswith("/vectors"):
            vectors = [{"values": [100, 5, 0.05], "status": "complete", "event_time": None}]
            names = [f["name"] for f in FEATURES]
            return httpx.Response(
                200, json={"features": names, "vectors": vectors, "as_of": "2024-05-01T00:00:00Z"}
            )
        if path == "/health":
            return httpx.Response(200, json={"status": "ok"})
        return httpx.Response(404, json={"error": {"code": "not_found", "message": "no", "hint": None}})

    return reply


@pytest.fixture
def seen():
    return []


@pytest.fixture
def fs(seen):
    return millpond.login("http://m", transport=httpx.MockTransport(serve(seen))).get_feature_store()


def test_the_three_calls(fs, seen):
    fg = fs.get_or_create_feature_group(name="ctr_5min", stream=True, online_enabled=True)
    fv = fs.get_or_create_feature_view(name="ctr_fv", query=fg.select_all())
    features = fv.get_feature_vector({"user_id": "user_123"})
    assert features == {"impressions": 100, "clicks": 5, "ctr": 0.05}
    assert seen[-1][2]["entries"] == [{"user_id": "user_123"}]
    assert seen[-2][2]["query"] == {
        "feature_group": {"name": "ctr_5min", "version": 1},
        "features": None,
        "joins": [],
    }


def test_without_a_definition_the_group_must_exist(fs):
    with pytest.raises(millpond.NotFoundError, match="nothing to make it of"):
        fs.get_or_create_feature_group("other")


def test_selections(fs):
    fg = fs.get_feature_group("ctr_5min")
    assert fg.select(["ctr"]).features == ("ctr",)
    assert fg.select_except(["clicks"]).features == ("user_id", "window_end", "impressions", "ctr")
    assert fg.select_all(include_primary_key=True).features == ("user_id", "impressions", "clicks", "ctr")
    assert fg.select_features() == fg.select_all()
    with pytest.raises(millpond.NotFoundError, match="'crt'"):
        fg.select(["crt"])


def test_joins(fs):
    fg = fs.get_feature_group("ctr_5min")
    query = fg.select(["ctr"])
    joined = query.join(fg.select(["clicks"]), left_on=["friend"], right_on=["user_id"], prefix="friend_")
    assert query.joins == ()
    assert joined.to_json()["joins"] == [
        {
            "query": fg.select(["clicks"]).to_json(),
            "join_type": "left",
            "left_on": ["friend"],
            "right_on": ["user_id"],
            "prefix": "friend_",
        }
    ]


def test_rows_cannot_be_inserted_into_sql(fs):
    with pytest.raises(millpond.UnsupportedError, match="derived by SQL"):
        fs.get_feature_group("ctr_5min").insert([{"user_id": "a"}])


def test_what_exists_is_not_created(fs):
    fg = fs.get_feature_group("ctr_5min")
    with pytest.raises(millpond.ConflictError, match="exists already"):
        fs.create_feature_view("ctr_fv", fg.select_all())


def test_filters_are_for_reading(fs):
    fg = fs.get_feature_group("ctr_5min")
    query = fg.select(["ctr"]).filter(fg["clicks"] > 5).filter(fg["user_id"] == "a")
    assert query.features == ("ctr",)
    for refused in (query, fg.as_of("2024-05-01"), fg.select_all().limit(3)):
        with pytest.raises(millpond.UnsupportedError, match="feature view"):
            fs.get_or_create_feature_view("v", refused)
    joined = fg.select(["ctr"]).join(fg.select(["clicks"]), prefix="p_")
    with pytest.raises(millpond.UnsupportedError, match="joins groups"):
        joined.read()
    with pytest.raises(millpond.UnsupportedError, match="online store"):
        fg.as_of("2024-05-01").read(online=True)


def test_what_is_no_filter_is_said_to_be_none(fs):
    fg = fs.get_feature_group("ctr_5min")
    with pytest.raises(millpond.InvalidRequestError, match="neither true nor false"):
        fg.filter(fg["clicks"] > 5 and fg["clicks"] < 9)
    with pytest.raises(millpond.InvalidRequestError, match="is_null"):
        fg.filter(fg["clicks"] == None)  # noqa: E711
    with pytest.raises(millpond.NotFoundError, match="'clikcs'"):
        fg["clikcs"]


def test_columns_are_equal_by_value():
    one, other = millpond.Column("a", "int"), millpond.Column("a", "bigint")
    assert one == millpond.Column("a", "int")
    assert (one != other, one in [other], len({one, other})) == (True, False, 2)
