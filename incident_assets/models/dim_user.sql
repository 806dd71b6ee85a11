-- People of the account, leavers included.
-- Grain: user_id
-- Source: the API's users, as they are.
WITH parsed AS (
    SELECT
        *,
        from_json(seats, '{"on_call": "VARCHAR", "response": "VARCHAR"}') AS seat,
        from_json(base_role, '{"name": "VARCHAR"}') AS permission
    FROM incident_api.users
    WHERE _deleted_at IS NULL
)

SELECT
    id AS user_id, -- Identifier of the user
    name, -- Full name
    email, -- Address
    slack_user_id, -- Id in the chat workspace
    is_active, -- False for leavers and for people who have not joined yet
    permission.name AS base_role, -- Role that every permission starts from
    seat.on_call AS on_call_seat, -- Seat for being on call: full_access, viewer_only or none
    seat.response AS response_seat -- Seat for responding: full_access, viewer_only or none
FROM parsed
