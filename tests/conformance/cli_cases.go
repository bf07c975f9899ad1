package conformance

// cliScenarios is what a user types. Each begins with an engine without objects but the image busybox:latest. A line is one case:
// what follows "docker", single quotes as in a shell. $REGISTRY is a registry with an image web:latest, $PORT a free port of the host, $DIR a directory, $START the engine's clock
// at the beginning and $NOW its clock now. A line that begins with "!" may say another thing on stderr than the real one's (the
// runtime's own words), but must fail with the same exit code; the lines that one with "~" prints come in any order.
var cliScenarios = []struct{ name, lines string }{
	{"run", `
run -d -p $PORT:80 --restart=always --name web busybox httpd -f
ps
ps --no-trunc
ps -q --no-trunc
ps --format '{{.Names}} {{.State}} {{.Status}} {{.Ports}} {{.Image}} {{.Command}} {{.Networks}} {{.Mounts}} {{.LocalVolumes}}'
port web
port web 80
inspect -f '{{.Name}} {{.State.Status}} {{.State.Running}} {{.State.ExitCode}} {{.HostConfig.RestartPolicy.Name}} {{.RestartCount}}' web
inspect -f '{{json .NetworkSettings.Ports}}' web
inspect -f '{{json .HostConfig.PortBindings}} {{json .Config.ExposedPorts}}' web
run -d --name web busybox sleep 1000
run -d --name web2 -p $PORT:80 busybox httpd -f
ps -a --format '{{.Names}} {{.Status}} {{.Ports}}'
rm web
rm -f web web2
ps -aq
rm web
rm -f web`},

	{"lifecycle", `
create --name one busybox sh -c 'trap "exit 0" TERM; while :; do sleep 1000 & wait; done'
ps
ps -a
inspect -f '{{.State.Status}} {{.State.StartedAt}} {{.State.FinishedAt}} {{.State.Pid}}' one
start one
start one
pause one
pause one
ps
start one
unpause one
unpause one
kill nowhere
stop -t 1 one
stop -t 1 one
ps -a
kill one
restart -t 1 one
ps
rename one two
rename two two
rename two 'not valid'
rename nowhere ee
kill two
wait two
inspect -f '{{.State.Status}} {{.State.ExitCode}} {{.State.Running}} {{.State.Pid}}' two
start two
kill -s TERM two
wait two
kill -s NONSENSE two
stop nowhere
start nowhere
pause nowhere
unpause two
pause two
restart nowhere
wait nowhere
rm nowhere
rm two`},

	{"create refused", `
create --name 'a b' busybox
create --name w busybox
create --name aa --rm --restart always busybox
create --name aa 127.0.0.1:1/nosuch:1
create --restart nonsense --name aa busybox
create --restart always:3 --name aa busybox
create --name aa -p nonsense busybox
create --name aa -v nonsense busybox
ps -aq`},

	{"exit codes and logs", `
run --name job busybox sh -c 'echo out; sleep 0.1; echo err >&2; exit 3'
ps -a --format '{{.Names}} {{.Status}}'
logs job
logs --tail 1 job
logs -f job
wait job
start -a job
logs job
run --rm --name gone busybox echo hello world
run --name bad busybox /no/such/command
!run -d --name bad2 busybox nosuchcommand
inspect -f '{{.State.Status}} {{.State.ExitCode}}' bad bad2
ps -a --format '{{.Names}} {{.Status}}'
run --name tt busybox true
run --name ff busybox false
inspect -f '{{.State.ExitCode}}' tt ff
logs nowhere
run -d --name pair busybox sh -c 'echo one; echo two'
wait pair
logs -n 1 pair
run --rm --entrypoint echo busybox from entrypoint
run --name env -e A=b --label x=y -w /tmp busybox true
inspect -f '{{.Config.Labels.x}} {{.Config.WorkingDir}} {{.Path}} {{json .Args}} {{json .Config.Cmd}} {{json .Config.Entrypoint}}' env`},

	{"restart policies", `
run -d --name job --restart on-failure:2 busybox sh -c 'exit 1'
wait job
inspect -f '{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.RestartPolicy.MaximumRetryCount}}' job
run -d --name uu --restart unless-stopped busybox sleep 1000
update --restart no uu
inspect -f '{{.HostConfig.RestartPolicy.Name}}' uu
update --restart unless-stopped uu
kill uu
wait uu
ps -a --format '{{.Names}} {{.State}}' --filter name=uu
rm uu`},

	{"filters", `
create --name aa --label k=1 busybox
create --name bb --label k=2 --label xx busybox sleep 1000
start bb
tag busybox:latest other:1
create --name oo other:1
ps -a --format '{{.Names}}' --filter label=k
ps -a --format '{{.Names}}' --filter label=k=2
ps -a --format '{{.Names}}' --filter name=bb
ps -a --format '{{.Names}}' --filter name=^/aa$
ps -a --format '{{.Names}}' --filter status=created
ps -a --format '{{.Names}}' --filter status=running --filter status=exited
ps -a --format '{{.Names}}' --filter status=nonsense
ps -a --format '{{.Names}}' --filter ancestor=busybox
ps -a --format '{{.Names}}' --filter nonsense=1
ps -a --format '{{.Names}}' --filter before=bb
ps -a --format '{{.Names}}' --filter since=aa
ps -a --format '{{.Names}}' --last 1
ps -a --format '{{.Names}} {{.Labels}}' --filter label=x`},

	{"images", `
images
images --no-trunc
images -q
tag busybox:latest busybox:second
tag busybox other/name:1
tag nowhere:1 x:1
tag busybox 'Not Valid'
~images --format '{{.Repository}}:{{.Tag}}'
~images --format '{{.Repository}}:{{.Tag}}' busybox
images --format '{{.Repository}}:{{.Tag}}' --filter reference='*:1'
images --format '{{.Repository}}:{{.Tag}}' --filter reference='*/*'
images -q --filter dangling=true
image inspect -f '{{.RepoTags}} {{.Os}} {{.Architecture}} {{json .Config.Cmd}} {{.Config.Env}}' busybox
image inspect nowhere
inspect nowhere
inspect -f '{{.Name}}' --type container nowhere
create --name user busybox
rmi busybox:second
rmi busybox:latest
rmi other/name:1
rmi -f other/name:1
rmi nowhere:1
rm user
rmi busybox:latest
images
image prune -f`},

	{"images in use", `
run -d --name user busybox sleep 1000
rmi busybox
rmi -f busybox
images
images --filter dangling=true -q
image prune -f
ps --format '{{.Image}}'
rm -f user
image prune -f
images -q`},

	{"save and load", `
save -o $DIR/a.tar busybox:latest
rmi busybox:latest
load -i $DIR/a.tar
images --format '{{.Repository}}:{{.Tag}}'
load -q -i $DIR/a.tar
save -o $DIR/b.tar nowhere:1`},

	{"pull", `
pull $REGISTRY/web
pull $REGISTRY/web:latest
pull -q $REGISTRY/web
images --format '{{.Repository}}:{{.Tag}}' $REGISTRY/web
image inspect -f '{{.RepoTags}} {{len .RepoDigests}} {{json .Config.Cmd}}' $REGISTRY/web
image inspect -f '{{.RepoDigests}}' $REGISTRY/web
pull $REGISTRY/web:nosuchtag
pull $REGISTRY/nowhere
create --name puller $REGISTRY/web:latest
rmi $REGISTRY/web
rm puller
rmi $REGISTRY/web
create --name puller $REGISTRY/web:latest
inspect -f '{{.Path}} {{json .Args}} {{.Config.Image}}' puller
events --since $START --until $NOW --filter type=image`},

	{"volumes", `
volume create data
volume create data
volume create --label a=b --label c= labelled
volume ls
volume ls -q
volume ls -q --filter label=a
volume ls -q --filter label=a=b
volume ls -q --filter name=dat
volume ls -q --filter dangling=true
volume inspect -f '{{.Name}} {{.Driver}} {{.Scope}} {{json .Labels}} {{json .Options}}' data labelled
volume inspect nowhere
volume create 'not valid'
volume create -d nosuchdriver xx
create --name ro -v labelled:/l:ro busybox
inspect -f '{{range .Mounts}}{{.Type}} {{.Name}} {{.Destination}} {{.RW}} {{.Driver}} {{.Mode}}{{end}}' ro
create --name anonymous -v /a busybox
inspect -f '{{range .Mounts}}{{.Type}} {{.Destination}} {{.RW}} {{.Driver}} {{.Mode}}{{end}}' anonymous
rm -v anonymous ro
create --name user -v data:/d busybox
inspect -f '{{range .Mounts}}{{.Type}} {{.Name}} {{.Source}} {{.Destination}} {{.RW}} {{.Driver}} {{.Mode}}{{end}}' user
ps -a --format '{{.Names}} {{.Mounts}} {{.LocalVolumes}}' --filter volume=data
volume ls -q --filter dangling=false --filter name=data
volume rm data
volume rm -f data
volume rm nowhere
volume rm -f nowhere
rm -v user
volume ls -q
~volume prune -f
volume ls -q`},

	{"prune", `
create --name aa busybox
run -d --name bb busybox sleep 1000
create --name keep --label keep busybox
container prune -f --filter label!=keep
ps -a --format '{{.Names}}'
container prune -f
ps -a --format '{{.Names}}'
image prune -a -f
rm -f bb
image prune -a -f
images -q
container prune -f`},

	{"events", `
run -d --name web --label l=1 -v data:/d busybox sleep 1000
pause web
unpause web
rename web vv
kill vv
wait vv
rm vv
tag busybox:latest two:1
rmi two:1
volume rm data
events --since $START --until $NOW --format '{{.Type}} {{.Action}}'
events --since $START --until $NOW --filter type=container
events --since $START --until $NOW --filter type=image --filter type=volume
events --since $START --until $NOW --filter event=kill --filter event=rename --format '{{.Action}} {{.Actor.Attributes.name}} {{.Actor.Attributes.signal}} {{.Actor.Attributes.oldName}}'
events --since $START --until $NOW --filter container=vv --format '{{.Action}}'
events --since $START --until $NOW --filter label=l=1 --format '{{.Action}}'
events --since $START --until $NOW --filter image=busybox --filter type=image --format '{{.Action}}'
events --since $START --until $NOW --filter volume=data --format '{{.Action}}'
events --since $NOW --until $START`},

	{"system", `
version --format '{{.Server.APIVersion}} {{.Server.Os}} {{.Client.APIVersion}}'
info --format '{{.OSType}} {{.Containers}} {{.ContainersRunning}} {{.Images}}'
run -d --name web -v data:/d busybox sleep 1000
system df
system df --format '{{.Type}} {{.TotalCount}} {{.Active}}'
info --format '{{.Containers}} {{.ContainersRunning}} {{.ContainersPaused}} {{.ContainersStopped}} {{.Images}}'
network ls --format '{{.Name}} {{.Driver}} {{.Scope}}'
inspect -f '{{.Id}}' web
inspect -f '{{range $n, $e := .NetworkSettings.Networks}}{{$n}} {{$e.IPAddress}}{{end}}' web
exec nowhere true`},

	{"health", `
run -d --name hh --health-cmd 'exit 0' --health-interval 100ms busybox sleep 1000
inspect -f '{{json .Config.Healthcheck.Test}} {{.Config.Healthcheck.Interval}}' hh
run -d --name plain busybox sleep 1000
inspect -f '{{json .Config.Healthcheck}}' plain`},
}
