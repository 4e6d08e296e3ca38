# TokenHub in an image that holds the program, the certificates of the public
# authorities and an empty folder for its data, and nothing else.
#
#   docker build -t tokenhub --build-arg VERSION=$(git describe --tags --always) .
#   docker run -d --name tokenhub --read-only -p 127.0.0.1:8080:8080 -v tokenhub:/data -e OPENAI_API_KEY tokenhub
#   docker exec tokenhub tokenhub keys create --name laptop

FROM --platform=$BUILDPLATFORM golang:1.26-alpine AS build
WORKDIR /src
# The modules change less often than the program: a layer of their own.
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETOS TARGETARCH
ARG VERSION=dev
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$VERSION" -o /root-fs/usr/local/bin/tokenhub .
# A new volume takes over the owner and the mode of /data, and TokenHub refuses a
# folder that others can look into. Both are set here, since builders disagree on
# what COPY --chmod does to the folder itself.
RUN mkdir -p /root-fs/etc/ssl/certs /root-fs/etc/tokenhub \
    && mkdir -m 0700 /root-fs/data && chown 65532:65532 /root-fs/data \
    && cp /etc/ssl/certs/ca-certificates.crt /root-fs/etc/ssl/certs/ \
    && cp LICENSE NOTICE /root-fs/

FROM scratch
COPY --from=build /root-fs/ /
# As a number, so that Kubernetes' runAsNonRoot can tell.
USER 65532:65532
ENV PATH=/usr/local/bin \
    TOKENHUB_LISTEN=0.0.0.0:8080 \
    TOKENHUB_DATA_DIR=/data
EXPOSE 8080
VOLUME /data
HEALTHCHECK --interval=30s --timeout=6s --start-period=10s CMD ["tokenhub", "healthcheck", "--quiet"]
ENTRYPOINT ["tokenhub"]
CMD ["serve"]
