#!/bin/sh
# A user is let in and sent away, by the AWS command line.
#
# Region and credentials are in the environment. The command line before 2.13
# has to be told the endpoint.
set -eu
room=$1
ivschat() { aws ivschat "$@" --endpoint-url "$AWS_ENDPOINT_URL_IVSCHAT" --output text --no-cli-pager; }

ivschat create-chat-token --room-identifier "$room" --user-id ann \
	--capabilities SEND_MESSAGE --attributes displayName=Ann --query token
ivschat disconnect-user --room-identifier "$room" --user-id ann --reason 'good night'
