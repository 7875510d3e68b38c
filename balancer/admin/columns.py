"""A picture as HAProxy's CSV, so that what reads that reads ours. Pure.

The columns are those of HAProxy 2.6 up to its modules' own, in its order, with its units: times in
milliseconds, ages in seconds, a share of 1 as a weight of 100. What we don't have is left empty,
as HAProxy does. Lines: each listener (FRONTEND), then each service's backends and sum (BACKEND).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from balancer.measures.rates import SAMPLES
from balancer.measures.stats import Pause, Picture, no_pause

HEADER: Final = (
    "pxname,svname,qcur,qmax,scur,smax,slim,stot,bin,bout,dreq,dresp,ereq,econ,eresp,wretr,wredis,status,weight,act,"
    "bck,chkfail,chkdown,lastchg,downtime,qlimit,pid,iid,sid,throttle,lbtot,tracked,type,rate,rate_lim,rate_max,"
    "check_status,check_code,check_duration,hrsp_1xx,hrsp_2xx,hrsp_3xx,hrsp_4xx,hrsp_5xx,hrsp_other,hanafail,"
    "req_rate,req_rate_max,req_tot,cli_abrt,srv_abrt,comp_in,comp_out,comp_byp,comp_rsp,lastsess,last_chk,last_agt,"
    "qtime,ctime,rtime,ttime,agent_status,agent_code,agent_duration,check_desc,agent_desc,check_rise,check_fall,"
    "check_health,agent_rise,agent_fall,agent_health,addr,cookie,mode,algo,conn_rate,conn_rate_max,conn_tot,"
    "intercepted,dcon,dses,wrew,connect,reuse,cache_lookups,cache_hits,srv_icur,src_ilim,qtime_max,ctime_max,"
    "rtime_max,ttime_max,eint,idle_conn_cur,safe_conn_cur,used_conn_cur,need_conn_est,uweight,agg_server_status,"
    "agg_server_check_status,agg_check_status"
)
COLUMNS: Final = HEADER.split(",")

_TIMES: Final = {"qtime": "queue", "ctime": "connect", "rtime": "first_byte", "ttime": "total"}

Line = dict[str, Any]


def csv(picture: Picture, pause: Pause = no_pause) -> str:
    """All of it, with the header that HAProxy writes."""
    lines = []
    for row in rows(picture):
        lines.append(",".join(_cell(row.get(column, "")) for column in COLUMNS))
        pause()
    return "".join(f"{line},\n" for line in ("# " + HEADER, *lines))  # HAProxy ends each line with a comma too


def rows(picture: Picture) -> Iterator[Line]:
    """The lines, by column."""
    proxies = 0
    for name, front in picture["fronts"].items():
        proxies += 1
        status = "STOP" if picture.get("state") == "draining" else "OPEN"
        yield _front(name, front) | {"iid": proxies, "status": status}
    for name, service in picture["services"].items():
        proxies += 1
        for number, (backend_name, backend) in enumerate(service["backends"].items(), 1):
            yield _backend(backend) | {"pxname": name, "svname": backend_name, "iid": proxies, "sid": number}
        yield _service(service) | {"pxname": name, "iid": proxies}


def _front(name: str, front: Picture) -> Line:
    return {
        "pxname": name,
        "svname": "FRONTEND",
        "scur": front["sessions"],
        "smax": front["sessions_max"],
        "slim": front["sessions_limit"] or "",
        "stot": front["sessions_total"],
        "bin": front["bytes_in"],
        "bout": front["bytes_out"],
        "dreq": front["denied"],
        "dresp": 0,
        "ereq": sum(front["errors"].values()),
        "pid": 1,
        "sid": 0,
        "type": 0,
        "rate": round(front["session_rate"]),
        "rate_lim": 0,
        "rate_max": round(front["session_rate_max"]),
        **_responses(front["classes"]),
        "req_rate": round(front["request_rate"]),
        "req_rate_max": round(front["request_rate_max"]),
        "req_tot": front["requests"],
        "cli_abrt": front["client_aborts"],
        "mode": "http",
        "conn_rate": round(front["session_rate"]),
        "conn_rate_max": round(front["session_rate_max"]),
        "conn_tot": front["sessions_total"],
        "intercepted": front["intercepted"],
        "dcon": front["denied_connections"],
        "dses": front["handshake_failures"],
    }


def _traffic(counted: Picture) -> Line:
    """What a backend's line and the service's have in common."""
    return {
        "stot": counted["sessions_total"],
        "bin": counted["bytes_in"],
        "bout": counted["bytes_out"],
        "dresp": 0,
        "econ": counted["connect_errors"],
        "eresp": counted["response_errors"],
        "wretr": counted["retries"],
        "wredis": counted["redispatches"],
        "bck": 0,
        "pid": 1,
        "lbtot": counted["sessions_total"],
        "rate": round(counted["rate"]),
        "rate_max": round(counted["rate_max"]),
        "req_tot": counted["sessions_total"],
        "cli_abrt": counted["client_aborts"],
        "srv_abrt": counted["server_aborts"],
        "mode": "http",
        "connect": counted["connects"],
        "reuse": counted["reuses"],
    }


def _backend(backend: Picture) -> Line:
    return {
        **_traffic(backend),
        "qcur": 0,  # requests wait for a service, never for one of its backends
        "qmax": 0,
        "scur": backend["sessions"],
        "smax": backend["sessions_max"],
        "slim": backend["sessions_limit"] or "",
        "status": backend["status"],
        "weight": round(backend["weight"] * 100),
        "act": int(_is_up(backend)),
        "chkfail": backend["check_failures"],
        "chkdown": backend["downs"],
        "lastchg": int(backend["status_s"]),
        "downtime": int(backend["downtime_s"]),
        "type": 2,
        **_check(backend["check"]),
        **_responses(backend["classes"]),
        "lastsess": -1 if backend["last_used_s"] is None else int(backend["last_used_s"]),
        **{column: _ms(backend["mean_s"][each]) for column, each in _TIMES.items()},
        "addr": backend["address"],
        "srv_icur": backend["idle"],
        "idle_conn_cur": backend["idle"],
        "used_conn_cur": backend["sessions"],
    }


def _service(service: Picture) -> Line:
    backends = list(service["backends"].values())
    up = [each for each in backends if _is_up(each)]
    sessions = sum(each["sessions"] for each in backends)
    used = [each["last_used_s"] for each in backends if each["last_used_s"] is not None]
    classes = dict(service["classes"])
    for key, count in service["failures"].items():
        classes[f"{key[0]}xx"] += count
    return {
        **_traffic(service),
        "svname": "BACKEND",
        "qcur": service["queue"] + service["held"],
        "qmax": max(service["queue_max"], service["held_max"], service["queue"] + service["held"]),
        "scur": sessions,
        "smax": max(sessions, *(each["sessions_max"] for each in backends), 0),
        "dreq": 0,
        "status": "UP" if up else "DOWN",
        "weight": sum(round(each["weight"] * 100) for each in up),
        "act": len(up),
        "sid": 0,
        "type": 1,
        **_responses(classes),
        "lastsess": int(min(used, default=-1)),
        **{column: _ms(_mean(backends, each)) for column, each in _TIMES.items()},
        "algo": "leastconn",
    }


def _is_up(backend: Picture) -> bool:
    up: bool = backend["status"].startswith("UP")
    return up


def _check(check: Picture) -> Line:
    if not check["text"]:
        return {}
    layer = "L7" if check["code"] else "L4"
    problem = "STS" if check["code"] else "CON"
    return {
        "check_status": layer + ("OK" if check["ok"] else problem),
        "check_code": check["code"] or "",
        "check_duration": _ms(check["s"]),
        "last_chk": check["text"],
    }


def _responses(classes: dict[str, int]) -> Line:
    return {f"hrsp_{name}": count for name, count in classes.items()}


def _mean(backends: list[Picture], each: str) -> float:
    counts = [min(backend["answered"], SAMPLES) for backend in backends]
    weighed = sum(backend["mean_s"][each] * count for backend, count in zip(backends, counts, strict=True))
    mean: float = weighed / sum(counts) if any(counts) else 0.0
    return mean


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _cell(value: object) -> str:
    text = str(value)
    if any(char in text for char in ',"\r\n'):
        return '"' + text.replace('"', '""') + '"'
    return text
