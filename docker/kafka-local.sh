#!/usr/bin/env bash
# A single-node Apache Kafka (KRaft, no ZooKeeper, no Docker) for development, tests and CI.
#
#   docker/kafka-local.sh start                          # 127.0.0.1:9092, prints the address
#   docker/kafka-local.sh create-topic bids --partitions 4
#   docker/kafka-local.sh produce bids < bids.jsonl
#   docker/kafka-local.sh consume bids --max-messages 5
#   docker/kafka-local.sh stop                           # the data stay; start finds them again
#
# The jars come from Maven Central through the installed Maven, once, into a cache; the broker runs
# on the installed Java (17 or newer) and listens on loopback only. A broker belongs to a directory:
# its data, configuration, log and pid file are all in it, and `stop` ends only the process that
# this file says was started from this directory.
#
# Answers go to standard output (start and address print `host:port`, nothing else), progress and
# errors to standard error, so that `addr=$(kafka-local.sh start --port 0 --dir d)` works.

set -euo pipefail

# The newest release whose broker, clients and command-line tools are all on Maven Central.
readonly DEFAULT_VERSION=4.3.1
# Log4j's binding for SLF4J must be the version of the log4j-core that this Kafka brings along.
readonly DEFAULT_LOG4J=2.25.4
# A cold start takes three seconds on two idle cores; a loaded CI machine may need far longer.
readonly START_SECONDS_MAX=90
# A clean shutdown flushes the logs; after this long the process is killed.
readonly STOP_SECONDS_MAX=30

usage() {
    cat <<'USAGE'
usage: kafka-local.sh COMMAND [ARGUMENTS] [OPTIONS]

broker
  start                  start it (or find it running) and wait until it answers
  stop                   shut it down; the data stay
  kill                   end it with SIGKILL, as a crash does; the data stay
  pause | resume         SIGSTOP and SIGCONT: a broker that hangs
  status                 running or not (exit status 0 or 3), address, pid, directory
  address                host:port of the running broker
  destroy                stop it and delete its directory

topics (the broker must be running)
  create-topic NAME [--partitions N] [--config KEY=VALUE ...]     no error if it exists
  delete-topic NAME      no error if it does not exist
  topics                 list them
  describe-topic NAME
  offsets NAME           end offsets, partition by partition
  produce NAME [ARGS]    lines of standard input become records; ARGS go to the console producer
  consume NAME [ARGS]    print records from the beginning; ARGS go to the console consumer
  tool CLASS [ARGS]      any other tool of the jars, for example kafka.tools.StorageTool

jars
  fetch                  only download what is missing, and print the folder

options (environment in brackets)
  --port N               broker's port; 0 takes a free one  [TIDEMILL_KAFKA_PORT, 9092]
  --controller-port N    controller's port; 0 takes a free one  [TIDEMILL_KAFKA_CONTROLLER_PORT, 0]
  --dir PATH             data, log and pid file
                         [TIDEMILL_KAFKA_DIR, ${XDG_STATE_HOME:-~/.local/state}/tidemill/kafka-PORT]
  --heap SIZE            Java heap  [TIDEMILL_KAFKA_HEAP, 512m]
  --set KEY=VALUE        a broker property, over the ones set here; may be repeated
  --version V            Kafka's version  [TIDEMILL_KAFKA_VERSION]
USAGE
}

say() { printf 'kafka-local: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# ---------------------------------------------------------------------------------------------
# Options. Everything after the command that is not ours is kept, in order, for the tool behind it.

command_name=${1:-}
[[ $# -gt 0 ]] && shift

port=${TIDEMILL_KAFKA_PORT:-9092}
controller_port=${TIDEMILL_KAFKA_CONTROLLER_PORT:-0}
dir=${TIDEMILL_KAFKA_DIR:-}
# Without a port of its own wish, start is content with the one a running broker has.
port_wanted=${TIDEMILL_KAFKA_PORT:-0}
heap=${TIDEMILL_KAFKA_HEAP:-512m}
version=${TIDEMILL_KAFKA_VERSION:-$DEFAULT_VERSION}
log4j=${TIDEMILL_KAFKA_LOG4J_VERSION:-$DEFAULT_LOG4J}
overrides=()
rest=()

while [[ $# -gt 0 ]]; do
    case $1 in
        --port | --controller-port | --dir | --heap | --set | --version)
            [[ $# -ge 2 ]] || fail "option $1 needs a value"
            case $1 in
                --port) port=$2 port_wanted=$2 ;;
                --controller-port) controller_port=$2 ;;
                --dir) dir=$2 ;;
                --heap) heap=$2 ;;
                --set) overrides+=("$2") ;;
                --version) version=$2 ;;
            esac
            shift 2
            ;;
        --)
            shift
            rest+=("$@")
            break
            ;;
        *)
            rest+=("$1")
            shift
            ;;
    esac
done

for number in "$port" "$controller_port"; do
    [[ $number =~ ^[0-9]+$ && $number -le 65535 ]] || fail "port \"$number\" is not a number below 65536"
done
[[ $heap =~ ^[0-9]+[kKmMgG]$ ]] || fail "heap \"$heap\" is not a size such as 512m or 1g"
for override in ${overrides[@]+"${overrides[@]}"}; do
    [[ $override == *=* ]] || fail "--set \"$override\" is not KEY=VALUE"
done

if [[ -z $dir ]]; then
    dir=${XDG_STATE_HOME:-$HOME/.local/state}/tidemill/kafka-$port
fi
case $dir in /*) ;; *) dir=$PWD/$dir ;; esac

cache=${XDG_CACHE_HOME:-$HOME/.cache}/tidemill/kafka-$version
readonly port port_wanted controller_port dir heap version cache
readonly pid_file=$dir/pid config=$dir/server.properties address_file=$dir/address

# ---------------------------------------------------------------------------------------------
# Java and the jars.

java_command() {
    local java=java major
    if [[ -n ${JAVA_HOME:-} && -x $JAVA_HOME/bin/java ]]; then
        java=$JAVA_HOME/bin/java
    fi
    command -v "$java" >/dev/null || fail "java is not installed; Kafka needs version 17 or newer"
    major=$("$java" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -n 1)
    [[ -n $major && $major -ge 17 ]] || fail "Kafka needs Java 17 or newer, $java is ${major:-unknown}"
    printf '%s\n' "$java"
}

# Runs its arguments while holding a lock on a file, where the system has flock.
with_lock() {
    local lock=$1
    shift
    if command -v flock >/dev/null; then
        (
            flock -w 600 9 || fail "another process holds $lock"
            "$@"
        ) 9>"$lock"
    else
        "$@"
    fi
}

# Downloads into a folder beside the cache and renames it: a half-done download is never used.
fetch_locked() {
    [[ -d $cache/libs ]] && return 0
    command -v mvn >/dev/null || fail "mvn (Maven) is not installed; it fetches Kafka's jars"
    local work
    work=$(mktemp -d "$cache.fetch.XXXXXX")
    # The tools' jar depends on Kafka Connect for one command; topics, producer and consumer do not.
    cat >"$work/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>tidemill</groupId>
  <artifactId>kafka-local</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>$version</version>
    </dependency>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka-tools</artifactId>
      <version>$version</version>
      <exclusions>
        <exclusion><groupId>org.apache.kafka</groupId><artifactId>connect-api</artifactId></exclusion>
        <exclusion><groupId>org.apache.kafka</groupId><artifactId>connect-json</artifactId></exclusion>
        <exclusion><groupId>org.apache.kafka</groupId><artifactId>connect-runtime</artifactId></exclusion>
      </exclusions>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId>
      <artifactId>log4j-slf4j-impl</artifactId>
      <version>$log4j</version>
    </dependency>
  </dependencies>
</project>
POM
    say "fetching Kafka $version with Maven into $cache"
    if ! mvn -B -q -f "$work/pom.xml" dependency:copy-dependencies \
        -DincludeScope=runtime -DoutputDirectory="$work/libs" >"$work/mvn.log" 2>&1 </dev/null; then
        tail -n 20 "$work/mvn.log" >&2
        rm -rf "$work"
        fail "Maven could not fetch Kafka $version"
    fi
    mkdir -p "$cache"
    mv "$work/libs" "$cache/libs"
    rm -rf "$work"
}

fetch() {
    [[ -d $cache/libs ]] && return 0
    mkdir -p "$(dirname "$cache")"
    with_lock "$cache.lock" fetch_locked
}

# Runs a class of the jars with a small heap and warnings only.
tool() {
    local java class=$1
    shift
    fetch
    java=$(java_command)
    mkdir -p "$cache"
    if [[ ! -f $cache/tools-log4j2.properties ]]; then
        log_config WARN SYSTEM_ERR >"$cache/tools-log4j2.properties.$$"
        mv "$cache/tools-log4j2.properties.$$" "$cache/tools-log4j2.properties"
    fi
    "$java" -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Djava.awt.headless=true \
        -Dlog4j2.configurationFile="$cache/tools-log4j2.properties" \
        -cp "$cache/libs/*" "$class" "$@"
}

log_config() {
    cat <<LOG
status = error
appender.console.type = Console
appender.console.name = console
appender.console.target = $2
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d] %p %m (%c)%n
rootLogger.level = $1
rootLogger.appenderRef.console.ref = console
LOG
}

# ---------------------------------------------------------------------------------------------
# The process.

# Prints the pid if the process in the pid file lives and is the broker of this directory. A pid
# that the system has since given to another program is not ours and is never signalled.
our_pid() {
    local pid arguments
    [[ -s $pid_file ]] || return 1
    pid=$(<"$pid_file")
    [[ $pid =~ ^[0-9]+$ ]] || return 1
    if [[ -r /proc/$pid/cmdline ]]; then
        arguments=$(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null) || return 1
    else
        arguments=$(ps -p "$pid" -o args= 2>/dev/null) || return 1
    fi
    [[ $arguments == *"kafka.Kafka $config"* ]] || return 1
    printf '%s\n' "$pid"
}

# Whether nothing accepts connections on a port of loopback.
port_is_free() {
    ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# A port between 20000 and 31999: below the range from which systems take the ports of outgoing
# connections, so that no connection of a parallel test sits on it.
free_port() {
    local attempt candidate
    for ((attempt = 0; attempt < 200; attempt++)); do
        candidate=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
        if port_is_free "$candidate"; then
            printf '%s\n' "$candidate"
            return 0
        fi
    done
    fail "no free port between 20000 and 31999"
}

# Asks the broker itself. The bytes are a Metadata request, version 1, for no topic: api key 3,
# version 1, correlation id 7, no client id, an empty list. The answer holds its length, the
# correlation id and the number of live brokers, which is 1 only when this one takes requests.
answers() {
    local reply
    reply=$(
        exec 2>/dev/null # bash itself reports a refused connection
        exec 3<>"/dev/tcp/127.0.0.1/$1" || exit 1
        printf '\x00\x00\x00\x0e\x00\x03\x00\x01\x00\x00\x00\x07\xff\xff\x00\x00\x00\x00' >&3
        timeout 2 head -c 12 <&3 | od -An -v -tx1 | tr -d ' \n'
    ) || return 1
    [[ ${reply:8} == 0000000700000001 ]]
}

write_config() {
    local broker=$1 controller=$2 override
    {
        cat <<CONFIG
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:$broker,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$broker
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
# A static quorum: its port may change from start to start, which a dynamic one would have to learn.
controller.quorum.voters=1@127.0.0.1:$controller
log.dirs=$dir/data

# One node: every internal topic has one partition and one replica.
num.partitions=1
default.replication.factor=1
min.insync.replicas=1
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0

# A broker that was killed may come back after this long; the default is 9 s.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=1000

# A misspelt topic is an error, as on managed brokers.
auto.create.topics.enable=false
# Records carry event times of any year: nothing is deleted or refused because of them.
log.retention.ms=-1
log.message.timestamp.before.max.ms=9223372036854775807
log.message.timestamp.after.max.ms=9223372036854775807
# Kafka's own bound is a little below a record of 1 MiB with its headers.
message.max.bytes=10485760

# Small: it shares two cores and the memory with the server under test.
num.network.threads=2
num.io.threads=4
background.threads=2
num.recovery.threads.per.data.dir=1
log.cleaner.threads=1
log.cleaner.dedupe.buffer.size=16777216
CONFIG
        for override in ${overrides[@]+"${overrides[@]}"}; do
            printf '%s\n' "$override"
        done
    } >"$config.new"
    mv "$config.new" "$config"
}

# Gives the directory its cluster id, once. A Kafka cluster id is 16 bytes in URL-safe base64; the
# first letter is fixed because a leading dash would read as an option.
format() {
    [[ -f $dir/data/meta.properties ]] && return 0
    local id
    id=$(head -c 15 /dev/urandom | od -An -v -tx1 | tr -d ' \n' | cut -c 1-20)
    if ! tool kafka.tools.StorageTool format --cluster-id "T${id}A" --config "$config" \
        --ignore-formatted >"$dir/format.log" 2>&1; then
        tail -n 20 "$dir/format.log" >&2
        fail "the data directory $dir/data could not be formatted"
    fi
}

show_log_and_fail() {
    tail -n 25 "$dir/server.log" >&2 || true
    fail "$*"
}

start_locked() {
    local pid java broker=$port controller=$controller_port deadline
    if pid=$(our_pid) && [[ -s $address_file ]]; then
        local running
        running=$(<"$address_file")
        if [[ $port_wanted != 0 && $running != "127.0.0.1:$port_wanted" ]]; then
            fail "the broker in $dir already runs at $running; stop it first"
        fi
        answers "${running##*:}" || fail "the broker in $dir (pid $pid) runs but does not answer"
        say "already running: pid $pid"
        printf '%s\n' "$running"
        return 0
    fi

    java=$(java_command)
    [[ $broker != 0 ]] || broker=$(free_port)
    [[ $controller != 0 ]] || controller=$(free_port)
    [[ $broker != "$controller" ]] || fail "broker and controller cannot share port $broker"
    port_is_free "$broker" || fail "port $broker is in use by another program; choose one with --port"
    port_is_free "$controller" || fail "port $controller is in use; choose one with --controller-port"
    write_config "$broker" "$controller"
    log_config INFO SYSTEM_OUT >"$dir/log4j2.properties"
    format

    # Its own session: Ctrl-C in the caller's terminal does not reach it. The shell writes its own
    # pid and becomes the broker, so the file is right whatever setsid does.
    local launch=()
    ! command -v setsid >/dev/null || launch=(setsid)
    rm -f "$pid_file"
    say "starting Kafka $version at 127.0.0.1:$broker in $dir"
    # shellcheck disable=SC2016 # the inner shell expands them
    nohup ${launch[@]+"${launch[@]}"} sh -c 'printf "%s\n" $$ >"$0"; exec "$@"' "$pid_file" \
        "$java" "-Xms128m" "-Xmx$heap" -server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 \
        -XX:+ExplicitGCInvokesConcurrent -Djava.awt.headless=true \
        -Dlog4j2.configurationFile="$dir/log4j2.properties" \
        -cp "$cache/libs/*" kafka.Kafka "$config" \
        >"$dir/server.log" 2>&1 </dev/null 9>&- &

    deadline=$((SECONDS + START_SECONDS_MAX))
    until answers "$broker"; do
        # The file appears at once; it is absent only before the shell above has run.
        if [[ -s $pid_file ]] && ! kill -0 "$(<"$pid_file")" 2>/dev/null; then
            rm -f "$pid_file"
            show_log_and_fail "the broker ended while starting"
        fi
        if ((SECONDS >= deadline)); then
            stop_locked || true
            show_log_and_fail "the broker did not answer within $START_SECONDS_MAX s"
        fi
        sleep 0.1
    done
    # Something answers; it is ours only if our process still lives.
    pid=$(our_pid) || show_log_and_fail "the broker ended while starting"
    printf '127.0.0.1:%s\n' "$broker" >"$address_file"
    say "ready: pid $pid"
    printf '127.0.0.1:%s\n' "$broker"
}

start() {
    fetch
    mkdir -p "$dir"
    with_lock "$dir/lock" start_locked
}

# Waits for a process to end. Returns 1 when it has not within the given seconds.
wait_gone() {
    local deadline=$((SECONDS + $2))
    while kill -0 "$1" 2>/dev/null; do
        # A child that nobody has waited for yet is over, whatever kill says of it.
        if [[ -r /proc/$1/stat && $(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null) == Z* ]]; then
            return 0
        fi
        ((SECONDS < deadline)) || return 1
        sleep 0.05
    done
}

stop_locked() {
    local pid
    if ! pid=$(our_pid); then
        rm -f "$pid_file" "$address_file"
        say "not running"
        return 0
    fi
    # A paused process takes a signal to end only once it goes on.
    kill -TERM "$pid" 2>/dev/null || true
    kill -CONT "$pid" 2>/dev/null || true
    if ! wait_gone "$pid" "$STOP_SECONDS_MAX"; then
        say "pid $pid did not end within $STOP_SECONDS_MAX s; killing it"
        kill -KILL "$pid" 2>/dev/null || true
        wait_gone "$pid" 10 || fail "pid $pid does not end"
    fi
    rm -f "$pid_file" "$address_file"
    say "stopped"
}

kill_locked() {
    local pid
    pid=$(our_pid) || fail "not running in $dir"
    kill -KILL "$pid"
    wait_gone "$pid" 10 || fail "pid $pid does not end"
    rm -f "$pid_file" "$address_file"
    say "killed"
}

signal() {
    local pid
    pid=$(our_pid) || fail "not running in $dir"
    kill "-$1" "$pid"
}

running_address() {
    our_pid >/dev/null && [[ -s $address_file ]] || fail "not running in $dir; start it first"
    cat "$address_file"
}

status() {
    local pid
    if pid=$(our_pid) && [[ -s $address_file ]]; then
        local state=running
        answers "$(sed 's/.*://' "$address_file")" || state="running, but not answering"
        printf '%s\naddress %s\npid %s\ndirectory %s\n' "$state" "$(<"$address_file")" "$pid" "$dir"
        return 0
    fi
    printf 'stopped\ndirectory %s\n' "$dir"
    return 3
}

destroy() {
    [[ -d $dir ]] || return 0
    # Deletes only what start has made: a mistyped --dir is not emptied.
    [[ -f $config || ! -e $dir/data ]] || fail "$dir was not made by this script"
    with_lock "$dir/lock" stop_locked
    rm -rf "$dir/data" "$config" "$dir/server.log" "$dir/format.log" "$dir/log4j2.properties" \
        "$dir/lock" "$address_file" "$pid_file"
    rmdir "$dir" 2>/dev/null || true
}

# ---------------------------------------------------------------------------------------------
# Commands.

# The first of the remaining arguments, which names a topic.
topic_name() {
    [[ ${#rest[@]} -ge 1 && ${rest[0]} != -* ]] || fail "$command_name needs the name of a topic"
    printf '%s\n' "${rest[0]}"
}

on_topic() {
    local address
    address=$(running_address)
    tool org.apache.kafka.tools.TopicCommand --bootstrap-server "$address" "$@"
}

case $command_name in
    start) start ;;
    stop)
        if [[ -d $dir ]]; then with_lock "$dir/lock" stop_locked; else say "not running"; fi
        ;;
    kill)
        [[ -d $dir ]] || fail "not running in $dir"
        with_lock "$dir/lock" kill_locked
        ;;
    pause) signal STOP ;;
    resume) signal CONT ;;
    status) status ;;
    address) running_address ;;
    destroy) destroy ;;
    fetch)
        fetch
        printf '%s\n' "$cache/libs"
        ;;
    create-topic)
        name=$(topic_name)
        on_topic --create --if-not-exists --topic "$name" "${rest[@]:1}" >&2
        ;;
    delete-topic)
        name=$(topic_name)
        on_topic --delete --if-exists --topic "$name" >&2
        ;;
    topics) on_topic --list ;;
    describe-topic)
        name=$(topic_name)
        on_topic --describe --topic "$name"
        ;;
    offsets)
        name=$(topic_name)
        address=$(running_address)
        tool org.apache.kafka.tools.GetOffsetShell --bootstrap-server "$address" --topic "$name"
        ;;
    produce)
        name=$(topic_name)
        address=$(running_address)
        tool org.apache.kafka.tools.ConsoleProducer --bootstrap-server "$address" \
            --topic "$name" "${rest[@]:1}"
        ;;
    consume)
        name=$(topic_name)
        address=$(running_address)
        tool org.apache.kafka.tools.consumer.ConsoleConsumer --bootstrap-server "$address" \
            --topic "$name" --from-beginning "${rest[@]:1}"
        ;;
    tool)
        [[ ${#rest[@]} -ge 1 ]] || fail "tool needs the name of a class"
        tool "${rest[@]}"
        ;;
    help | --help | -h) usage ;;
    '')
        usage >&2
        exit 2
        ;;
    *)
        say "there is no command \"$command_name\""
        usage >&2
        exit 2
        ;;
esac
