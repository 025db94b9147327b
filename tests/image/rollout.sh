#!/bin/sh
# Inside the image: lay the fleet of $1 out in a new repository, merge a run, and let the reconciler bring it to its first gate.
set -eu
export GIT_AUTHOR_NAME=Ada GIT_AUTHOR_EMAIL=ada@example.org GIT_COMMITTER_NAME=Ada GIT_COMMITTER_EMAIL=ada@example.org

commit() {
    git -C desk add .
    git -C desk commit --quiet --message="$1"
    git -C desk push --quiet origin HEAD:main
}

git init --quiet --bare --initial-branch=main fleet.git
git clone --quiet fleet.git desk 2>/dev/null
cp -R "$1/." desk/
commit "Describe the fleet"
reconciler init --repo "$PWD/fleet.git"

cat >desk/runs/platform-1.yaml <<RUN
apiVersion: placement.kubernetes-fleet.io/v1
kind: ClusterStagedUpdateRun
metadata:
  name: platform-1
spec:
  placementName: platform
  stagedRolloutStrategyName: rings
RUN
commit "Roll the platform out"
reconciler reconcile --once --repo "$PWD/fleet.git" --members "$PWD/members"

test -f members/weu-canary/platform/ConfigMap/platform-settings.yaml
test "$(ls members)" = weu-canary
