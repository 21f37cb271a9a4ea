#!/usr/bin/env bash
# What ctest makes of a test program's entries (tests/discover_tests.cmake): a failed case is a failure, alone or among
# others that were skipped, and skipped is only what was skipped as a whole. The program is made up here.
#   discover_test.sh SOURCE_DIR
set -uo pipefail
source=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/program" <<'END'
#!/usr/bin/env bash
passed='[  PASSED  ]' skipped='[  SKIPPED ]' failed='[  FAILED  ]'
case $1 in
  --gtest_list_tests) printf '%s\n' 'Suite.' '  Good' '  Bad' '  Skipped' '  Crashes' 'Many/Cases.' '  Mixed/0' '  Mixed/1' '  Some/0' '  Some/1' ;;
  *=Suite.Good) echo "$passed 1 test." ;;
  *=Suite.Bad) printf '%s\n' "$passed 0 tests." "$failed 1 test, listed below:" "$failed Suite.Bad"; exit 1 ;;
  *=Suite.Skipped) printf '%s\n' "$passed 0 tests." "$skipped 1 test, listed below:" "$skipped Suite.Skipped" ;;
  *=Suite.Crashes) kill -SEGV $$ ;;
  *=Many/Cases.Mixed/\*)
    printf '%s\n' "$passed 0 tests." "$skipped 1 test, listed below:" "$skipped Many/Cases.Mixed/0" "$failed 1 test, listed below:" \
      "$failed Many/Cases.Mixed/1"
    exit 1 ;;
  *=Many/Cases.Some/\*) printf '%s\n' "$passed 1 test." "$skipped 1 test, listed below:" "$skipped Many/Cases.Some/1" ;;
  *) echo "an entry that nobody listed: $*"; exit 3 ;;
esac
END
chmod +x "$work/program"
cat >"$work/CTestTestfile.cmake" <<END
set(program "$work/program")
set(prefix made_up.)
set(label made_up)
set(timeout 60)
set(groups_cases ON)
include("$source/tests/discover_tests.cmake")
END
ctest --test-dir "$work" >"$work/out" 2>&1
result=$?

failures=0
is() {  # is <entry> <what ctest calls it>
  grep -qE "Test +#[0-9]+: made_up\.$1 \.+ *$2" "$work/out" || { echo "FAILED: $1 is not '$2'"; failures=1; }
}
is 'Suite\.Good' 'Passed'
is 'Suite\.Bad' '\*\*\*Failed'
is 'Suite\.Skipped' '\*\*\*Skipped'
is 'Suite\.Crashes' '\*\*\*Exception'
is 'Many/Cases\.Mixed' '\*\*\*Failed'
is 'Many/Cases\.Some' 'Passed'
((result != 0)) || { echo "FAILED: ctest ended as if nothing had failed"; failures=1; }
((failures == 0)) || cat "$work/out"
exit $failures
